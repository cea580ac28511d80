"""A workbook for object detection on 360-degree LiDAR street panoramas: all the code that the notebooks call."""
__version__ = "0.1.0"
