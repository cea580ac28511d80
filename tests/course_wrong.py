"""Wrong answers that people typically give, at least five for each exercise."""
import re

import numpy as np
import torch
from scipy import stats
from torchvision.ops import box_iou, generalized_box_iou

from detlib import boxes as B
from detlib.anchors import AnchorSpec, ssd_shapes
from detlib.matching import decode, encode

NAN = float("nan")


def share_with(rule, mean=np.mean):
    return lambda boxes, limit: float(mean(rule(boxes[:, 2:] - boxes[:, :2], limit))) if len(boxes) else 0


def parts(a, b):
    """Signed sides of the intersection (M, N, 2), and both areas."""
    sides = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
    return sides, B.area(a)[:, None], B.area(b)


def iou_with(sides, a, b):
    inter = sides.prod(-1)
    return inter / (a + b - inter)


def iou_plus_one(a, b):
    inter = (parts(a, b)[0] + 1).clamp(min=0).prod(-1)
    area = [(x[:, 2] - x[:, 0] + 1) * (x[:, 3] - x[:, 1] + 1) for x in (a, b)]
    return inter / (area[0][:, None] + area[1] - inter)


def iou_clamped_late(a, b):
    sides, one, other = parts(a, b)
    inter = sides.prod(-1).clamp(min=0)
    return inter / (one + other - inter)


def iou_without_union(a, b):
    sides, one, other = parts(a, b)
    return sides.clamp(min=0).prod(-1) / (one + other)


def iou_over_smaller(a, b):
    sides, one, other = parts(a, b)
    return sides.clamp(min=0).prod(-1) / torch.minimum(one, other)


def grid_with(order, centre=lambda k, s: (k + 0.5) * s, entry=lambda x, y, w, h: (x, y, w, h)):
    def grid(stride, shapes, image_hw):
        rows, columns = image_hw[0] // stride, image_hw[1] // stride
        places = {"rca": [(r, c, s) for r in range(rows) for c in range(columns) for s in shapes],
                  "cra": [(r, c, s) for c in range(columns) for r in range(rows) for s in shapes],
                  "arc": [(r, c, s) for s in shapes for r in range(rows) for c in range(columns)]}[order]
        return [entry(centre(c, stride), centre(r, stride), *s) for r, c, s in places]
    return grid


def encode_with(variances=(0.1, 0.2), log=torch.log, over=lambda wh: wh):
    def code(boxes, anchors):
        box = B.xyxy_to_cxcywh(boxes)
        return torch.cat([(box[:, :2] - anchors[:, :2]) / over(anchors[:, 2:]) / variances[0], log(box[:, 2:] / anchors[:, 2:]) / variances[1]], -1)
    return code


def decode_with(variances=(0.1, 0.2), exp=torch.exp, over=lambda wh: wh, back=B.cxcywh_to_xyxy):
    def code(offsets, anchors):
        return back(torch.cat([anchors[:, :2] + variances[0] * offsets[:, :2] * over(anchors[:, 2:]),
                               anchors[:, 2:] * exp(variances[1] * offsets[:, 2:])], -1))
    return code


def match_free(overlap, threshold):
    """Each object takes the best anchor that no earlier one has claimed."""
    matched = torch.as_tensor(match_with(force=False)(overlap, threshold))
    claims = overlap.clone()
    for number in range(overlap.shape[1]):
        anchor = claims[:, number].argmax()
        matched[anchor], claims[anchor] = number, -1
    return matched


def match_with(force=True, least=None, reverse=False, equal=False, only_without=False, force_first=False):
    def match(overlap, threshold):
        if not overlap.shape[1]:
            return [-1] * len(overlap)
        best, matched = overlap.max(1)
        threshold = threshold if least is None else least
        background = best < threshold if equal else best <= threshold
        if not force_first:
            matched[background] = -1
        order = list(enumerate(overlap.argmax(0).tolist()))
        for number, anchor in (reversed(order) if reverse else order) if force else ():
            if not (only_without and (matched == number).any()):
                matched[anchor] = number
        if force_first:
            matched[background] = -1
        return matched
    return match


def hardest_with(times=3, key=lambda losses, positive: losses.masked_fill(positive, -1), add=False, most=None):
    def hardest(losses, positive):
        wanted = min(times * int(positive.sum()) if most is None else most, int((~positive).sum()))
        chosen = torch.zeros_like(positive)
        chosen[key(losses, positive).topk(wanted).indices] = True
        return chosen | positive if add else chosen
    return hardest


def rolled_with(drop=2.0, cut=True, left=True, modulo=True, size=True):
    def rolled(boxes, shift, width):
        x1, y1, x2, y2 = boxes.unbind(-1)
        start = (x1 + shift) % width if modulo else x1 + shift
        end = start + x2 - x1 if size else (x2 + shift) % width
        one = torch.stack([start, y1, end.clamp(max=width) if cut else end, y2], -1)
        other = torch.stack([torch.zeros_like(x1), y1, end - width, y2], -1)
        both = torch.cat([one, other]) if left else one
        return both[both[:, 2] - both[:, 0] >= drop]
    return rolled


def kept_with(rule=lambda before, after: after >= 0.4 * before, move=True, cut=True):
    def kept(boxes, left, width):
        x1, y1, x2, y2 = boxes.unbind(-1)
        start, end = (x1 - left).clamp(0, width), (x2 - left).clamp(0, width)
        stay = rule(x2 - x1, end - start)
        start, end = (start, end) if cut else (x1 - left, x2 - left)
        return torch.stack([start + (0 if move else left), y1, end + (0 if move else left), y2], -1)[stay]
    return kept


def merge_with(up=lambda m: m.repeat_interleave(2, -2).repeat_interleave(2, -1), chain=True, add=torch.add):
    def merge(laterals):
        merged = list(laterals)
        for k in range(len(merged) - 2, -1, -1):
            merged[k] = add(laterals[k], up((merged if chain else laterals)[k + 1]))
        return merged
    return merge


def focal_with(power=lambda p, gamma: (1 - p) ** gamma, weigh=True, swap=False, reduce=torch.sum, sign=-1, log=torch.log, probability=None):
    def focal(logits, classes, gamma, alpha):
        p = (probability or (lambda z: z.softmax(-1)))(logits).gather(1, classes[:, None])[:, 0]
        background, rest = reversed(alpha) if swap else alpha
        weight = torch.where(classes > 0, rest, background) if weigh else 1.0
        return sign * reduce(weight * power(p, gamma) * log(p))
    return focal


def gradient_with(first=True, sign=1, weigh=True, softmax=True):
    def gradient(logits, classes, gamma, alpha):
        p = logits.softmax(-1).gather(1, classes[:, None])[:, 0]
        weight = torch.where(classes > 0, alpha[1], alpha[0]) if weigh else 1.0
        slope = weight * (first * gamma * p * (1 - p) ** (gamma - 1) * p.log() - (1 - p) ** gamma)
        onehot = torch.eye(logits.shape[1])[classes]
        return sign * slope[:, None] * (onehot - logits.softmax(-1) if softmax else onehot)
    return gradient


FOCAL, GRADIENT = focal_with(), gradient_with()


def kmeans_with(near, mean=lambda members: members.mean(0), empty=lambda old: old):
    def step(wh, shapes):
        nearest = near(wh, shapes)
        return torch.stack([mean(wh[nearest == k]) if (nearest == k).any() else empty(old) for k, old in enumerate(shapes)])
    return step


def overlap_of(wh, shapes):
    inter = torch.minimum(wh[:, None], shapes).prod(-1)
    return inter / (wh.prod(-1)[:, None] + shapes.prod(-1) - inter)


def quantiles(values, ends=(0.025, 0.975)):
    return np.quantile(values, ends)


def suppressed(overlap, scores, threshold, against="kept", order=None, equal=False):
    stay, seen = [], []
    for i in order if order is not None else scores.argsort(descending=True).tolist():
        others = {"kept": stay, "all": seen, "best": seen[:1], "last": stay[-1:]}[against]
        worst = overlap[i, others].max() if others else -1.0
        if worst < threshold or (worst == threshold and not equal):
            stay.append(i)
        seen.append(i)
    return stay


def ap_with(points=101, envelope=True, objects_of=lambda hits, objects: objects, beyond=True):
    def ap(hits, objects):
        found = np.cumsum(hits)
        precision, recall = found / np.arange(1, len(hits) + 1), found / max(objects_of(hits, objects), 1)
        if not envelope:
            return np.mean([next((p for p, r in zip(precision, recall, strict=True) if r >= least), 0.0) for least in np.linspace(0, 1, points)])
        last = precision[-1] if len(hits) and not beyond else 0
        return np.mean([max(precision[recall >= least], default=last) for least in np.linspace(0, 1, points)])
    return ap


def shown_best(value):
    return lambda scores, hits, objects: max(scores, key=lambda least: value(hits[scores >= least].sum(), (scores >= least).sum(), objects))


def best_down_the_list(scores, hits, objects):
    """Counts as if a score could end in the middle of its equals."""
    order = np.argsort(-scores, kind="stable")
    return scores[order][np.argmax(2 * hits[order].cumsum() / (np.arange(1, len(scores) + 1) + objects))]


def yolo(x, y, w, h, corner=False):
    def convert(rows, width, height):
        scale = rows.new_tensor([{"w": width, "h": height, "1": 1}[k] for k in (x, y, w, h)])
        return (B.xywh_to_xyxy if corner else B.cxcywh_to_xyxy)(rows * scale)
    return convert


def unboxed(first="pad", clip=True, swap=False, times=False, pads=1):
    def undo(boxes, scale, pad_xy, picture_hw):
        pad = boxes.new_tensor([*(pad_xy[::-1] if swap else pad_xy)] * 2) * pads
        scale = 1 / scale if times else scale
        boxes = (boxes - pad) / scale if first == "pad" else boxes / scale - pad
        return B.clip(boxes, picture_hw) if clip else boxes
    return undo


def split_with(order=dict.fromkeys, enough=lambda held, wanted: held >= wanted):
    def split(clips, wanted):
        taken = []
        for clip in order(clips):
            if enough(sum(name in taken for name in clips), wanted):
                break
            taken.append(clip)
        return [name in taken for name in clips]
    return split


WRONG = {
    "seam": [lambda a, b, w: np.abs(a - b), lambda a, b, w: w - np.abs(a - b), lambda a, b, w: (b - a) % w,
             lambda a, b, w: np.minimum(a - b, w - (a - b)),
             lambda a, b, w: np.minimum(np.abs(a - b), w - 1 - np.abs(a - b)), lambda a, b, w: np.abs(a - b) % (w / 2),
             lambda a, b, w: np.minimum((a - b) % w, (b - a) % w).sum(), lambda a, b, w: np.maximum(np.abs(a - b), w - np.abs(a - b))],
    "two-changes": ["b", "f", "g", "bf", "fg", "bg", "abfg", "befg", "bcf", "bdfg"],
    "changed": [lambda a, b: sum(x != y for x, y in zip(a.values(), b.values(), strict=False)), lambda a, b: sum(a[k] != b.get(k) for k in a),
                lambda a, b: sum(a.get(k) != b.get(k) for k in a.keys() | b.keys()), lambda a, b: len(a.keys() ^ b.keys()), lambda a, b: a != b,
                lambda a, b: len(set(a.items()) ^ set(b.items())), lambda a, b: sum(a[k] != b[k] for k in a)],
    "small-share": [share_with(lambda wh, limit: (wh < limit).any(1)), share_with(lambda wh, limit: (wh <= limit).all(1)),
                    share_with(lambda wh, limit: (wh < limit).all(1), np.sum), share_with(lambda wh, limit: (wh < limit[::-1]).all(1)),
                    share_with(lambda wh, limit: wh.prod(1) < limit[0] * limit[1]), share_with(lambda wh, limit: wh[:, 0] < limit[0]),
                    share_with(lambda wh, limit: (wh < limit).all(1), lambda mask: 100 * mask.mean()),
                    lambda boxes, limit: float((boxes[:, 2:] < limit).all(1).mean()) if len(boxes) else 0,
                    lambda boxes, limit: sum(((boxes[:, 2:] - boxes[:, :2]) < limit).all(1)) / len(boxes)],
    "clip-name": [lambda f: f, lambda f: f.rsplit("_", 1)[0], lambda f: f.split("/")[-1], lambda f: f.split("/")[-1].split("_")[0],
                  lambda f: f.split("/")[-1].rstrip("0123456789.pngj"), lambda f: f.split("/")[-1].rsplit("_", 1)[1], lambda f: f.rsplit(".", 1)[0],
                  lambda f: f.split("/")[-1].split(".")[0].rsplit("_", 1)[0], lambda f: re.sub(r"_\d+$", "", f.split("/")[-1][:-4])],
    "mean-over-classes": [lambda ap: sum(ap) / len(ap), lambda ap: sum(max(v, 0) for v in ap) / len(ap),
                          lambda ap: sum(v for v in ap if v >= 0) / len(ap),
                          lambda ap: np.mean([v for v in ap if v > 0]) if max(ap) > 0 else NAN, lambda ap: np.median([v for v in ap if v >= 0]),
                          lambda ap: sum(v for v in ap if v >= 0) / (sum(v >= 0 for v in ap) or 1), max],
    "iou": [iou_plus_one, lambda a, b: iou_with(*parts(a, b)), iou_clamped_late, iou_without_union, iou_over_smaller, generalized_box_iou,
            lambda a, b: box_iou(a, b).T, lambda a, b: box_iou(a, b).diagonal(), lambda a, b: parts(a, b)[0].clamp(min=0).prod(-1),
            lambda a, b: parts(a, b)[0].clamp(min=0).prod(-1) / parts(a, b)[1]],
    "anchor-grid": [grid_with("rca", lambda k, s: k * s), grid_with("cra"), grid_with("arc"), grid_with("rca", entry=lambda x, y, w, h: (y, x, w, h)),
                    grid_with("rca", entry=lambda x, y, w, h: (x, y, h, w)), grid_with("rca", lambda k, s: k + 0.5),
                    grid_with("rca", entry=lambda x, y, w, h: (x - w / 2, y - h / 2, x + w / 2, y + h / 2)),
                    grid_with("rca", lambda k, s: k * s + s // 2 - 0.5),
                    lambda stride, shapes, hw: AnchorSpec((stride,), (tuple(shapes),)).grid(hw[::-1])],
    "encode-decode": [(encode_with((1, 1)), decode_with((1, 1))), (encode_with((0.2, 0.1)), decode_with((0.2, 0.1))),
                      (encode_with(log=lambda r: r), decode), (encode_with(log=torch.log2), decode),
                      (encode_with(over=lambda wh: wh.flip(-1)), decode),
                      (encode, decode_with(exp=lambda d: d)), (encode, decode_with(over=torch.ones_like)),
                      (encode, decode_with(back=lambda box: box)),
                      (encode, decode_with((1, 1))), (lambda b, a: encode(B.cxcywh_to_xyxy(b), a), decode), (decode, encode)],
    "match": [match_with(force=False), match_with(reverse=True), match_with(equal=True), match_with(least=-1.0), match_with(only_without=True),
              match_with(force_first=True), match_with(least=0.3), lambda overlap, t: overlap.argmax(1),
              lambda overlap, t: (overlap > t).any(1), match_free],
    "hard-negatives": [hardest_with(key=lambda losses, positive: losses), hardest_with(1), hardest_with(most=3), hardest_with(add=True),
                       hardest_with(key=lambda losses, positive: (-losses).masked_fill(positive, -99)), lambda losses, positive: ~positive,
                       lambda losses, positive: losses > losses.mean(), hardest_with(4)],
    "mirror": [lambda x, w: torch.stack([w - x[:, 0], x[:, 1], w - x[:, 2], x[:, 3]], -1), lambda x, w: x, lambda x, w: B.flip(x, w - 1),
               lambda x, w: B.flip(x, w)[:, [2, 1, 0, 3]], lambda x, w: x[:, [2, 1, 0, 3]],
               lambda x, w: B.flip(x[:, [1, 0, 3, 2]], w)[:, [1, 0, 3, 2]],
               lambda x, w: torch.stack([w - x[:, 2], x[:, 3], w - x[:, 0], x[:, 1]], -1)],
    "rolled": [rolled_with(left=False), rolled_with(cut=False), rolled_with(drop=0.1), rolled_with(modulo=False), rolled_with(size=False),
               rolled_with(drop=-1e9), lambda x, s, w: x, lambda x, s, w: rolled_with()(x, -s, w)],
    "kept": [kept_with(lambda b, a: a > 0), kept_with(lambda b, a: a >= b), kept_with(lambda b, a: a >= 0.5 * b), kept_with(move=False),
             kept_with(cut=False),
             kept_with(lambda b, a: a > 0.4 * b), kept_with(lambda b, a: a > -1), lambda x, left, w: kept_with()(x, left - left, w)],
    "flip-cost": [1.33, 1.965, 0.5894, 2.807, 39.43, 0.75, 1.96, -6.55],
    "fpn-merge": [merge_with(chain=False), merge_with(lambda m: m.repeat(1, 2, 2)), merge_with(add=torch.mul),
                  merge_with(add=lambda a, b: (a + b) / 2),
                  merge_with(lambda m: torch.nn.functional.interpolate(m[None], scale_factor=2, mode="bilinear")[0]), lambda m: m, lambda m: m[0],
                  merge_with(add=lambda a, b: torch.cat([a, b])), lambda m: merge_with()(m)[::-1]],
    "focal": [(focal_with(weigh=False), GRADIENT), (focal_with(lambda p, g: p**g), GRADIENT), (focal_with(swap=True), GRADIENT),
              (focal_with(reduce=torch.mean), GRADIENT), (focal_with(sign=1), GRADIENT), (focal_with(log=torch.log10), GRADIENT),
              (focal_with(probability=torch.sigmoid), GRADIENT), (FOCAL, gradient_with(first=False)), (FOCAL, gradient_with(sign=-1)),
              (FOCAL, gradient_with(weigh=False)), (FOCAL, gradient_with(softmax=False)), (focal_with(reduce=lambda x: x), GRADIENT),
              (lambda z, c, gamma, alpha: -(torch.tensor(alpha)[c] * torch.log_softmax(z, -1)[range(len(c)), c]).sum(), GRADIENT),
              (GRADIENT, FOCAL)],
    "bias-prior": [lambda p, k: np.log((1 - p) / p), lambda p, k: np.log(p * k / (1 - p)), lambda p, k: -np.log((1 - p) * k / p),
                   lambda p, k: np.log((1 - p) * (k + 1) / p), lambda p, k: np.log10((1 - p) * k / p), lambda p, k: (1 - p) * k / p,
                   lambda p, k: np.log((1 - p) / p / k), lambda p, k: np.log(1 - p)],
    "no-effect": ["a", "c", "d", "e", "f", "bc"],
    "paired-interval": [lambda a, b, p: quantiles((a - b)[p].mean(1)), lambda a, b, p: quantiles((b - a)[p].mean(1), (0.05, 0.95)),
                        lambda a, b, p: quantiles(b[p].mean(1)) - quantiles(a[p].mean(1))[::-1],
                        lambda a, b, p: quantiles(b[p[::-1]].mean(1) - a[p].mean(1)),
                        lambda a, b, p: quantiles(b - a), lambda a, b, p: quantiles((b - a)[p].mean(0)), lambda a, b, p: quantiles((b - a)[p]),
                        lambda a, b, p: [(b - a)[p].mean(1).min(), (b - a)[p].mean(1).max()],
                        lambda a, b, p: quantiles(b[p].mean(1)) - quantiles(a[p].mean(1)),
                        lambda a, b, p: (b - a).mean() + stats.t.ppf([0.025, 0.975], len(a) - 1) * (b - a)[p].mean(1).std()],
    "ssd-shapes": [lambda s, n, r: [(s, s), (np.sqrt(s * n),) * 2] + [x for q in r for x in ((s * q, s / q), (s / q, s * q))],
                   lambda s, n, r: [(s, s), ((s + n) / 2,) * 2, *ssd_shapes([(s, s), (n, n)], [r])[0][2:]],
                   lambda s, n, r: [(h, w) for w, h in ssd_shapes([(s, s), (n, n)], [r])[0]],
                   lambda s, n, r: ssd_shapes([(s, s), (n, n)], [r])[0][:2],
                   lambda s, n, r: [(s, s), (n, n), *ssd_shapes([(s, s), (n, n)], [r])[0][2:]],
                   lambda s, n, r: [(s, s), (np.sqrt(s * n),) * 2] + [x for q in r for x in ((s * q, s), (s, s * q))],
                   lambda s, n, r: ssd_shapes([(s, s), (n, n)], [r])[0][::-1]],
    "covered": [lambda x, t: (x.amax(1) >= t).float().mean(), lambda x, t: (x >= t).float().mean(), lambda x, t: (x.amax(0) > t).float().mean(),
                lambda x, t: x.amax(0).mean(), lambda x, t: (x.amax(0) >= t).sum(), lambda x, t: (x.mean(0) >= t).float().mean(),
                lambda x, t: (x.amax(0) >= 0.5).float().mean()],
    "kmeans-step": [kmeans_with(lambda wh, c: torch.cdist(wh, c).argmin(1)), kmeans_with(lambda wh, c: overlap_of(wh, c).argmin(1)),
                    kmeans_with(lambda wh, c: overlap_of(wh, c).argmax(1), lambda m: m.median(0).values),
                    kmeans_with(lambda wh, c: overlap_of(wh, c).argmax(1), empty=lambda old: old * NAN),
                    kmeans_with(lambda wh, c: overlap_of(wh, c).argmax(1), empty=torch.zeros_like), lambda wh, c: overlap_of(wh, c).argmax(1),
                    kmeans_with(lambda wh, c: (wh.prod(-1)[:, None] - c.prod(-1)).abs().argmin(1)),
                    kmeans_with(lambda wh, c: torch.minimum(wh[:, None], c).prod(-1).argmax(1)), lambda wh, c: c],
    "why-it-rose": ["a", "b", "ac", "ace", "abc", "abcde", "bd", "e"],
    "extended-frames": [6000 / 11, 6000 * 32, 6000 * 11, 1604 * 11, 6000 * 32 / 1604, 32 * 11, 16500 / 11, 17_600, 15_900, 18_300],
    "wasserstein": [lambda a, b: abs(a.mean() - b.mean()), lambda a, b: abs(np.median(a) - np.median(b)), lambda a, b: np.abs(a[:, None] - b).mean(),
                    lambda a, b: np.abs(np.sort(a)[:min(len(a), len(b))] - np.sort(b)[:min(len(a), len(b))]).mean(),
                    lambda a, b: max(abs((a <= x).mean() - (b <= x).mean()) for x in np.concatenate([a, b])), lambda a, b: np.abs(a - b).mean(),
                    lambda a, b: sum(abs((a <= x).mean() - (b <= x).mean()) for x in np.unique(np.concatenate([a, b])))],
    "total-variation": [lambda a, b: np.abs(a / a.sum() - b / b.sum()).sum(), lambda a, b: np.abs(a - b).sum() / 2,
                        lambda a, b: np.abs(a / a.sum() - b / b.sum()).max(), lambda a, b: np.sqrt(((a / a.sum() - b / b.sum()) ** 2).sum()),
                        lambda a, b: np.abs(a / a.max() - b / b.max()).sum() / 2, lambda a, b: np.abs(a / a.sum() - b / b.sum()).mean(),
                        lambda a, b: (a / a.sum() - b / b.sum()).sum() / 2],
    "effective-clips": [lambda n: (n > 0).sum(), lambda n: len(n), lambda n: 1 / ((n / n.sum()) ** 2).sum(), lambda n: n.sum() / n.max(),
                        lambda n: ((n / n.sum()) ** 2).sum() if n.any() else 0, lambda n: 1 / (n**2).sum() if n.any() else 0,
                        lambda n: np.exp(-sum(s * np.log(s) for s in n[n > 0] / n.sum())) if n.any() else 0],
    "conv-cost": [lambda i, o, k, hw: (o * i * k * k, o * i * k * k * hw[0] * hw[1]),
                  lambda i, o, k, hw: (o * (i * k + 1), o * i * k * hw[0] * hw[1]),
                  lambda i, o, k, hw: (o * (i * k * k + 1), o * i * k * k),
                  lambda i, o, k, hw: (o * (i * k * k + 1), 2 * o * i * k * k * hw[0] * hw[1]),
                  lambda i, o, k, hw: (o * (i * k * k + 1), o * (i * k * k + 1) * hw[0] * hw[1]),
                  lambda i, o, k, hw: (i * (o * k * k + 1), o * i * k * k * hw[0] * hw[1]), lambda i, o, k, hw: o * (i * k * k + 1)],
    "trained-parameters": [48_198_602, 47_935_178, 46_149_602, 46_083_746, 45_887_178, 45_886_179, 2_590_880],
    "oldest-picture": [4.09, 130.88, 1410.88, 1240, 170.88, 1280, 31 * 4.09 + 130.88, 32 * 130.88],
    "speeds": [lambda t, n: (np.mean(t), np.quantile(t, 0.95), 1000 * n * len(t) / sum(t)),
               lambda t, n: (np.median(t) / n, np.quantile(t, 0.95) / n, 1000 * n * len(t) / sum(t)),
               lambda t, n: (np.median(t), max(t), 1000 * n * len(t) / sum(t)),
               lambda t, n: (np.median(t), np.quantile(t, 0.95), 1000 * len(t) / sum(t)),
               lambda t, n: (np.median(t), np.quantile(t, 0.95), 1000 * n / np.median(t)),
               lambda t, n: (np.median(t), np.quantile(t, 0.95), n * len(t) / sum(t)), lambda t, n: (np.median(t), np.quantile(t, 0.95)),
               lambda t, n: (np.median(t), sorted(t)[int(np.ceil(0.95 * len(t))) - 1], 1000 * n * len(t) / sum(t))],
    "nms": [lambda x, s, t: suppressed(x, s, t, "all"), lambda x, s, t: suppressed(x, s, t, "best"),
            lambda x, s, t: suppressed(x, s, t, order=range(len(x))), lambda x, s, t: sorted(suppressed(x, s, t)),
            lambda x, s, t: suppressed(x, s, t, order=s.argsort().tolist()), lambda x, s, t: suppressed(x, s, t, equal=True),
            lambda x, s, t: s.argsort(descending=True), lambda x, s, t: suppressed(x, s, t, "last"), lambda x, s, t: s[suppressed(x, s, t)],
            lambda x, s, t: suppressed(x, s, 0.5)],
    "average-precision": [ap_with(envelope=False), ap_with(11), ap_with(objects_of=lambda hits, objects: hits.sum()), ap_with(beyond=False),
                          lambda hits, n: (hits * np.cumsum(hits) / np.arange(1, len(hits) + 1)).sum() / n, lambda hits, n: hits.mean(),
                          lambda hits, n: hits.sum() / n, lambda hits, n: (np.cumsum(hits) / np.arange(1, len(hits) + 1)).mean()],
    "map-bounds": [lambda a, b: (b, a), lambda a, b: (0, a), lambda a, b: ((a + b) / 2, (a + b) / 2), lambda a, b: ((a + 5 * b) / 10, a),
                   lambda a, b: ((a + b) / 10, (5 * a + 5 * b) / 10), lambda a, b: (b, (5 * a + 5 * b) / 10),
                   lambda a, b: ((a + 5 * b) / 10, (6 * a + 4 * b) / 10),
                   lambda a, b: ((5 * a + 5 * b) / 10, (a + 5 * b) / 10), lambda a, b: (0, 1)],
    "best-score": [lambda s, h, n: 0.5, shown_best(lambda hit, shown, n: hit / shown), shown_best(lambda hit, shown, n: hit), lambda s, h, n: max(s),
                   lambda s, h, n: max(2 * h[s >= x].sum() / ((s >= x).sum() + n) for x in s), shown_best(lambda hit, shown, n: 2 * hit - shown),
                   lambda s, h, n: s[np.argmax([2 * h[: k + 1].sum() / (k + 1 + n) for k in range(len(s))])],
                   best_down_the_list, lambda s, h, n: best_down_the_list(s[::-1], h[::-1], n),
                   lambda s, h, n: int(np.argmax([2 * h[s >= x].sum() / ((s >= x).sum() + n) for x in s]))],
    "yolo-boxes": [yolo("w", "h", "w", "h", corner=True), yolo("1", "1", "1", "1"), yolo("h", "w", "h", "w"), yolo("w", "w", "w", "w"),
                   lambda r, w, h: r * r.new_tensor([w, h, w, h]), lambda r, w, h: yolo("w", "h", "w", "h")(r, w, h)[:, [0, 2, 1, 3]],
                   lambda r, w, h: yolo("w", "h", "w", "h")(r, w, h).round()],
    "unletterbox": [unboxed("scale"), unboxed(clip=False), unboxed(swap=True), unboxed(times=True), unboxed(pads=0), unboxed(pads=-1),
                    lambda x, s, p, hw: unboxed()(x, s, p, hw[::-1])],
    "whole-clips": [lambda clips, wanted: [k < wanted for k in range(len(clips))], split_with(lambda clips: sorted(set(clips))),
                    split_with(enough=lambda held, wanted: held > wanted), lambda clips, wanted: [name == clips[0] for name in clips],
                    lambda clips, wanted: [k >= len(clips) - wanted for k in range(len(clips))],
                    lambda clips, wanted: [not k % 5 for k in range(len(clips))],
                    lambda clips, wanted: list(dict.fromkeys(clips))[:wanted], lambda clips, wanted: [not v for v in split_with()(clips, wanted)]],
    "old-filters": [lambda t, o: [0] + [t.index(n) if n in t else -1 for n in o], lambda t, o: [t.index(n) + 1 if n in t else -1 for n in o],
                    lambda t, o: [0] + [t.index(n) + 1 if n in t else 0 for n in o], lambda t, o: list(range(len(o) + 1)),
                    lambda t, o: [0] + [t.index(n) + 1 for n in o], lambda t, o: [0] + [t.index(n) + 1 for n in o if n in t],
                    lambda t, o: [0] + [o.index(n) + 1 if n in o else -1 for n in t]],
}
