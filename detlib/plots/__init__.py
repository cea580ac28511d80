"""One function a figure: records in, a matplotlib Figure out, which a notebook shows where it is a cell's last value."""
# ruff: noqa: F401, I001
from .audit import findings_sheet, precision_by_rank
from .anchors import anchor_table, matching_summary, shapes_on_frame, toy_matching, toy_table
from .bench import goals, growth
from .augment import before_after, box_statistics, by_channel, loader_costs, sampled_crops, varied
from .changes import crops, gains
from .compare import paired
from .cost import batches, cost_by_part, latencies, map_against_latency
from .coverage import class_recall, covered_frame, gain_against_coverage, matched, recall_curves, shape_cloud
from .data import aspect_ratios, box_map, clip_classes, counted, counted_sentence, frames, occurrences, size_heatmap
from .data import size_scatter, sizes_by_class, summary, train_against_val
from .errors import calibration, confusions, error_costs, found_shares, precision_recall
from .findings import gallery
from .ladder import ladder, lengths, rates
from .proofs import depth_toy, focal_curves, focal_scores, footprints, head_reach, initial_foreground, loss_shares, reach
from .shift import clip_profiles, shift_distances, trusted
from .starts import learning_curve
from .strips import strips, through_rungs
from .style import class_colours, draw_boxes, number, pictures, rung_colour
from .training import class_values, classes, first_steps, interval_note, intervals, losses, progress, truth_and_found, validation
