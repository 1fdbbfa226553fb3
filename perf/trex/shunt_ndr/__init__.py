"""The search for the highest rate that Shunt forwards without loss (NDR), with TRex as the generator."""
