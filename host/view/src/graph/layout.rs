//! Layered layout of nodes and edges, by Sugiyama's method.
//!
//! The longest path from a source is the layer of a node. Edges over several layers get a point in each layer between. Layers are sorted by the
//! mean position of their neighbours. Positions then move to the mean of the neighbours, as far as the order allows.

use std::ops::Range;

/// The distance between items of a layer.
const GAP: f64 = 28.0;
/// The number of sweeps over all layers.
const SWEEPS: usize = 8;
/// The maximum number of points. Further edges are straight.
const POINTS: usize = 20_000;

/// The layout of a graph.
pub struct Layout {
    /// The layer of each node.
    pub layers: Vec<usize>,
    /// The horizontal centre of each node.
    pub middles: Vec<f64>,
    /// The inner points of each edge: layer and horizontal position.
    pub ways: Vec<Vec<(usize, f64)>>,
    /// The width of the drawing.
    pub width: f64,
}

struct Items {
    layer: Vec<usize>,
    width: Vec<f64>,
    above: Vec<Vec<usize>>,
    below: Vec<Vec<usize>>,
}

/// Computes the layout of nodes of these widths.
pub fn layout(widths: &[f64], edges: &[(usize, usize)]) -> Layout {
    let layers = layers(widths.len(), edges);
    let nothing = vec![Vec::new(); widths.len()];
    let mut items = Items {
        layer: layers.clone(),
        width: widths.to_vec(),
        above: nothing.clone(),
        below: nothing,
    };
    let points: Vec<Range<usize>> = edges.iter().map(|edge| items.thread(*edge)).collect();
    let mut rows = vec![Vec::new(); items.layer.iter().max().map_or(0, |most| most + 1)];
    (0..items.layer.len()).for_each(|item| rows[items.layer[item]].push(item));
    items.sort(&mut rows);
    let middles = items.place(&rows);
    let edge = |item: usize, side: f64| middles[item] + side * items.width[item] / 2.0;
    let left = (0..middles.len()).map(|item| edge(item, -1.0)).fold(f64::MAX, f64::min);
    let right = (0..middles.len()).map(|item| edge(item, 1.0)).fold(f64::MIN, f64::max);
    let at = |item: usize| middles[item] - left;
    Layout {
        middles: (0..widths.len()).map(at).collect(),
        ways: points
            .into_iter()
            .map(|range| range.map(|item| (items.layer[item], at(item))).collect())
            .collect(),
        width: (right - left).max(0.0),
        layers,
    }
}

/// Returns the longest path to each node. Nodes on or after a cycle keep the layer reached so far.
fn layers(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let (mut layer, mut waits, mut out) = (vec![0; nodes], vec![0_usize; nodes], vec![Vec::new(); nodes]);
    for (from, to) in edges {
        waits[*to] += 1;
        out[*from].push(*to);
    }
    let mut ready: Vec<usize> = (0..nodes).filter(|node| waits[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for to in &out[node] {
            layer[*to] = layer[*to].max(layer[node] + 1);
            waits[*to] -= 1;
            if waits[*to] == 0 {
                ready.push(*to);
            }
        }
    }
    layer
}

impl Items {
    /// Connects the ends of an edge with a point in each layer between them.
    fn thread(&mut self, (from, to): (usize, usize)) -> Range<usize> {
        let first = self.layer.len();
        let between = self.layer[from] + 1..self.layer[to].max(self.layer[from] + 1);
        let mut last = from;
        if first + between.len() < POINTS.max(self.width.len()) {
            for layer in between {
                let point = self.layer.len();
                self.layer.push(layer);
                self.width.push(0.0);
                self.above.push(vec![last]);
                self.below.push(Vec::new());
                self.below[last].push(point);
                last = point;
            }
        }
        self.below[last].push(to);
        self.above[to].push(last);
        first..self.layer.len()
    }

    fn sort(&self, rows: &mut [Vec<usize>]) {
        let mut place = vec![0.0; self.layer.len()];
        let note = |row: &[usize], place: &mut [f64]| {
            row.iter().enumerate().for_each(|(at, item)| place[*item] = at as f64);
        };
        rows.iter().for_each(|row| note(row, &mut place));
        for sweep in 0..SWEEPS {
            let neighbours = if sweep % 2 == 0 { &self.above } else { &self.below };
            for at in order(rows.len(), sweep) {
                rows[at].sort_by(|a, b| {
                    let mean = |item: usize| mean(&neighbours[item], &place).unwrap_or(place[item]);
                    mean(*a).total_cmp(&mean(*b))
                });
                note(&rows[at], &mut place);
            }
        }
    }

    fn place(&self, rows: &[Vec<usize>]) -> Vec<f64> {
        let mut middles = vec![0.0; self.layer.len()];
        for row in rows {
            let wanted = vec![0.0; row.len()];
            self.spread(row, &wanted, &mut middles);
        }
        for sweep in 0..SWEEPS {
            let neighbours = if sweep % 2 == 0 { &self.above } else { &self.below };
            for at in order(rows.len(), sweep) {
                let wanted = rows[at]
                    .iter()
                    .map(|item| mean(&neighbours[*item], &middles).unwrap_or(middles[*item]));
                let wanted: Vec<f64> = wanted.collect();
                self.spread(&rows[at], &wanted, &mut middles);
            }
        }
        middles
    }

    /// Moves the items of a row to their wanted positions without overlap. Pushing all items right and pushing all left both avoid overlap, and so
    /// does the mean of the two.
    fn spread(&self, row: &[usize], wanted: &[f64], middles: &mut [f64]) {
        let apart = |a: usize, b: usize| (self.width[row[a]] + self.width[row[b]]) / 2.0 + GAP;
        let (mut right, mut left) = (wanted.to_vec(), wanted.to_vec());
        for at in 1..row.len() {
            right[at] = right[at].max(right[at - 1] + apart(at - 1, at));
        }
        for at in (1..row.len()).rev() {
            left[at - 1] = left[at - 1].min(left[at] - apart(at - 1, at));
        }
        for (at, item) in row.iter().enumerate() {
            middles[*item] = f64::midpoint(left[at], right[at]);
        }
    }
}

/// Returns layers from top to bottom in even sweeps, from bottom to top in odd ones.
fn order(layers: usize, sweep: usize) -> Vec<usize> {
    match sweep % 2 {
        0 => (0..layers).collect(),
        _ => (0..layers).rev().collect(),
    }
}

fn mean(items: &[usize], places: &[f64]) -> Option<f64> {
    let sum: f64 = items.iter().map(|item| places[*item]).sum();
    (!items.is_empty()).then(|| sum / items.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diamond_is_symmetric_and_a_long_edge_goes_around() {
        let layout = layout(&[40.0; 4], &[(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]);
        assert_eq!(layout.layers, [0, 1, 1, 2]);
        assert_eq!(layout.ways.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 0, 0, 1]);
        let (layer, point) = layout.ways[4][0];
        assert_eq!(layer, 1);
        for node in [1, 2] {
            assert!(
                (point - layout.middles[node]).abs() >= 20.0 + GAP,
                "{point}: {:?}",
                layout.middles
            );
        }
        assert!((layout.middles[1] - layout.middles[2]).abs() >= 40.0 + GAP);
        assert!(
            layout
                .middles
                .iter()
                .all(|middle| (20.0..=layout.width - 20.0).contains(middle))
        );
    }

    #[test]
    fn crossings_that_need_not_be_are_not() {
        // 0 -> 3, 1 -> 2: sorted so that they do not cross
        let layout = layout(&[10.0; 4], &[(0, 3), (1, 2)]);
        let order = |a: usize, b: usize| layout.middles[a] < layout.middles[b];
        assert_eq!(order(0, 1), order(3, 2));
    }

    #[test]
    fn nothing_and_a_cycle_are_laid_out() {
        assert_eq!(layout(&[], &[]).width, 0.0);
        assert_eq!(layout(&[1.0, 1.0], &[(0, 1), (1, 0)]).layers, [0, 0]);
    }
}
