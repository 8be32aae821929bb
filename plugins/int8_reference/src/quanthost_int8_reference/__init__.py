"""The backend ``int8_reference``: its support table and recipes; programs run without a delegate."""
