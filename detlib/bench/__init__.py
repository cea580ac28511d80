"""How fast the workbook is: each figure measured in turn with what it is compared with, in one run."""
