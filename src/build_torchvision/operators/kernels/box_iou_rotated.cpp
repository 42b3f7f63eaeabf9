// Overlaps of rotated boxes: intersection over union for every pair.
//
// What belongs to one box (its sine and cosine, its area) is computed once and not once a pair. A pair whose boxes are
// too far apart to touch is 0 without a polygon: most pairs are, and whole vectors of them are told by their distance.
// The polygon is built as upstream builds it (corners of either inside the other, crossings of their sides, convex hull
// by angle), with its order of operations and tolerances: the bits are the same.

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels.h"
#include "lanes.h"

namespace build_torchvision {

namespace {

constexpr double kTolerance = 1e-5;    // of positions on a side, and of projections
constexpr double kParallel = 1e-14;    // sides whose cross product is not more are parallel
constexpr double kSameAngle = 1e-6;    // cross products below this: one direction
constexpr double kSamePoint = 1e-8;    // squared distances up to this: one point
constexpr double kSmallestArea = 1e-14;
constexpr int kMostPoints = 24;        // 16 crossings and 8 corners
constexpr double kPairCost = 20;       // nanoseconds, of pairs of which some overlap

template <class T>
struct Vector {
  T x, y;
};
template <class T>
inline Vector<T> minus(const Vector<T>& a, const Vector<T>& b) {
  return {a.x - b.x, a.y - b.y};
}
template <class T>
inline T dot(const Vector<T>& a, const Vector<T>& b) {
  return a.x * b.x + a.y * b.y;
}
template <class T>
inline T cross(const Vector<T>& a, const Vector<T>& b) {
  return a.x * b.y - b.x * a.y;
}

// What one box brings to all its pairs. `reach` is more than the distance from the centre to any point that can count
// as the box's: its half diagonal, and what the tolerance adds to its sides.
template <class T>
struct Box {
  T x, y, width, height, area, half_cosine, half_sine, reach, thickness;
  bool none;

  explicit Box(const T* raw) : x(raw[0]), y(raw[1]), width(raw[2]), height(raw[3]) {
    area = width * height;
    none = area < kSmallestArea;
    const double angle = raw[4] * 0.01745329251;
    half_cosine = static_cast<T>(std::cos(angle)) * 0.5f;
    half_sine = static_cast<T>(std::sin(angle)) * 0.5f;
    const double w = std::abs(width), h = std::abs(height);
    thickness = static_cast<T>(std::min(w, h));
    reach = static_cast<T>(1.001 * (0.5 * std::hypot(w, h) * (1 + 4 * kTolerance) + 2 * kTolerance * (1 / w + 1 / h)));
  }
};

template <class T>
struct Rectangle {
  Vector<T> corners[4], sides[4];

  Rectangle(const Box<T>& box, T x, T y) {
    const T s = box.half_sine, c = box.half_cosine, w = box.width, h = box.height;
    corners[0] = {x + s * h + c * w, y + c * h - s * w};
    corners[1] = {x - s * h + c * w, y - c * h - s * w};
    corners[2] = {2 * x - corners[0].x, 2 * y - corners[0].y};
    corners[3] = {2 * x - corners[1].x, 2 * y - corners[1].y};
    for (int i = 0; i < 4; ++i) {
      sides[i] = minus(corners[(i + 1) % 4], corners[i]);
    }
  }
};

template <class T>
struct Points {
  Vector<T> at[kMostPoints];
  int count = 0;
  void add(const Vector<T>& point) {
    at[count++] = point;
  }
};

template <class T>
void add_corners_inside(const Rectangle<T>& of, const Rectangle<T>& in, Points<T>& points) {
  const Vector<T>&side = in.sides[0], &back = in.sides[3];
  const T side_length = dot(side, side), back_length = dot(back, back);
  for (int i = 0; i < 4; ++i) {
    const Vector<T> corner = minus(of.corners[i], in.corners[0]);
    const T along = dot(corner, side), up = -dot(corner, back);
    if (along > -kTolerance && up > -kTolerance && along < side_length + kTolerance && up < back_length + kTolerance) {
      points.add(of.corners[i]);
    }
  }
}

template <class T>
void add_crossings(const Rectangle<T>& a, const Rectangle<T>& b, Points<T>& points) {
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      const T across = cross(b.sides[j], a.sides[i]);
      if (std::abs(across) <= kParallel) {
        continue;
      }
      const Vector<T> between = minus(b.corners[j], a.corners[i]);
      const T on_a = cross(b.sides[j], between) / across, on_b = cross(a.sides[i], between) / across;
      if (on_a > -kTolerance && on_a < 1.0f + kTolerance && on_b > -kTolerance && on_b < 1.0f + kTolerance) {
        points.add({a.corners[i].x + a.sides[i].x * on_a, a.corners[i].y + a.sides[i].y * on_a});
      }
    }
  }
}

// The points' convex hull, relative to its lowest point, in `hull`; returns how many points it has.
template <class T>
int convex_hull(const Points<T>& points, Vector<T>* hull) {
  const int count = points.count;
  int lowest = 0;
  for (int i = 1; i < count; ++i) {
    const Vector<T>&point = points.at[i], &low = points.at[lowest];
    if (point.y < low.y || (point.y == low.y && point.x < low.x)) {
      lowest = i;
    }
  }
  T distance[kMostPoints];
  for (int i = 0; i < count; ++i) {
    hull[i] = minus(points.at[i], points.at[lowest]);
  }
  std::swap(hull[0], hull[lowest]);
  for (int i = 0; i < count; ++i) {
    distance[i] = dot(hull[i], hull[i]);
  }
  // By angle, then by distance. The comparison has a tolerance and is no order, so the exchanges must be these.
  for (int i = 1; i < count - 1; ++i) {
    for (int j = i + 1; j < count; ++j) {
      const T turn = cross(hull[i], hull[j]);
      if (turn < -kSameAngle || (std::abs(turn) < kSameAngle && distance[i] > distance[j])) {
        std::swap(hull[i], hull[j]);
        std::swap(distance[i], distance[j]);
      }
    }
  }
  for (int i = 0; i < count; ++i) {
    distance[i] = dot(hull[i], hull[i]);
  }
  int second = 1;
  while (second < count && !(distance[second] > kSamePoint)) {
    ++second;
  }
  if (second == count) {
    return 1;
  }
  hull[1] = hull[second];
  int size = 2;
  for (int i = second + 1; i < count; ++i) {
    while (size > 1) {
      const Vector<T> next = minus(hull[i], hull[size - 2]), last = minus(hull[size - 1], hull[size - 2]);
      // Two products, each rounded: a difference that is fused would not be 0 for equal points.
      if (!(next.x * last.y >= last.x * next.y)) {
        break;
      }
      --size;
    }
    hull[size++] = hull[i];
  }
  return size;
}

template <class T>
T area_of(const Vector<T>* polygon, int count) {
  if (count <= 2) {
    return 0;
  }
  T area = 0;
  for (int i = 1; i < count - 1; ++i) {
    area += std::abs(cross(minus(polygon[i], polygon[0]), minus(polygon[i + 1], polygon[0])));
  }
  return area / 2.0;
}

template <class T>
float overlap_of(const Box<T>& a, const Box<T>& b, bool clamped) {
  if (a.none || b.none) {
    return 0.0f;
  }
  // Relative to the middle between the centres, where numbers are small.
  const double middle_x = (a.x + b.x) / 2.0, middle_y = (a.y + b.y) / 2.0;
  const Rectangle<T> first(a, static_cast<T>(a.x - middle_x), static_cast<T>(a.y - middle_y));
  const Rectangle<T> second(b, static_cast<T>(b.x - middle_x), static_cast<T>(b.y - middle_y));
  Points<T> points;
  add_crossings(first, second, points);
  add_corners_inside(first, second, points);
  add_corners_inside(second, first, points);
  T intersection = 0;
  if (points.count > 2) {
    Vector<T> hull[kMostPoints];
    intersection = area_of(hull, convex_hull(points, hull));
  }
  T overlap = intersection / (a.area + b.area - intersection);
  if (clamped) {
    overlap = overlap < 0 ? 0 : (overlap > 1 ? 1 : overlap);
  }
  return static_cast<float>(overlap);
}

} // namespace

template <class T>
void box_iou_rotated(const Threads& threads, const T* boxes1, int64_t count1, const T* boxes2, int64_t count2, bool clamped, float* overlaps) {
  std::vector<Box<T>> others;
  others.reserve(count2);
  Buffer<T> x(count2), y(count2), reach(count2), thickness(count2);
  for (int64_t j = 0; j < count2; ++j) {
    others.emplace_back(boxes2 + j * 5);
    x[j] = others[j].x;
    y[j] = others[j].y;
    reach[j] = others[j].reach;
    thickness[j] = others[j].thickness;
  }
  const T *xs = x, *ys = y, *reaches = reach, *thicknesses = thickness;
  const double pairs = static_cast<double>(count1) * static_cast<double>(count2);
  parallel(worth(threads, pairs * kPairCost), count1, [&](int64_t begin, int64_t end) {
    constexpr int64_t kRow = 256;
    int32_t apart[kRow];
    for (int64_t i = begin; i < end; ++i) {
      const Box<T> box(boxes1 + i * 5);
      for (int64_t first = 0; first < count2; first += kRow) {
        const int64_t count = std::min(kRow, count2 - first);
        const T *xj = xs + first, *yj = ys + first, *rj = reaches + first, *tj = thicknesses + first;
        for (int64_t j = 0; j < count; ++j) {
          // Sides of boxes that are thin for their distance can seem to cross: their cross products are all rounding.
          const T dx = std::abs(xj[j] - box.x), dy = std::abs(yj[j] - box.y), distance = dx > dy ? dx : dy;
          const T thin = tj[j] < box.thickness ? tj[j] : box.thickness;
          apart[j] = (distance > rj[j] + box.reach) & (distance * static_cast<T>(1e-4) < thin) ? 1 : 0;
        }
        float* row = overlaps + i * count2 + first;
        for (int64_t j = 0; j < count; ++j) {
          row[j] = apart[j] ? 0.0f : overlap_of(box, others[first + j], clamped);
        }
      }
    }
  });
}

template void box_iou_rotated<float>(const Threads&, const float*, int64_t, const float*, int64_t, bool, float*);
template void box_iou_rotated<double>(const Threads&, const double*, int64_t, const double*, int64_t, bool, float*);

} // namespace build_torchvision
