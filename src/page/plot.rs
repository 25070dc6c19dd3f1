//! Bars as SVG, made here: the pages run no script.

/// One plot.
pub(super) struct Plot {
    /// Begins the ids of its parts.
    pub(super) id: String,
    /// For those who do not see it.
    pub(super) title: String,
    /// The same, at more length.
    pub(super) text: String,
    /// The greatest value, as people write it.
    pub(super) most: String,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Where the bars stand.
    pub(super) base: usize,
    /// Where the labels stand.
    pub(super) below: usize,
    pub(super) bars: Vec<Bar>,
    pub(super) labels: Vec<Label>,
}

/// One bar.
pub(super) struct Bar {
    /// `bar`, `bar last`, or `none`.
    pub(super) class: &'static str,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) width: String,
    pub(super) height: String,
}

/// A text below the bars.
pub(super) struct Label {
    pub(super) x: usize,
    pub(super) anchor: &'static str,
    pub(super) text: String,
}

const WIDTH: usize = 720;
const HEIGHT: usize = 140;
/// Room for the labels.
const BELOW: usize = 20;
/// Room for the greatest value.
const ABOVE: usize = 18;
/// A single bar does not fill the plot.
const BAR_MAX: f64 = 48.0;

/// The bars of these values, oldest first, with what stands below the first and the last.
pub(super) fn bars(values: &[i64], first: String, last: String) -> Plot {
    let most = values.iter().copied().max().unwrap_or_default().max(1);
    let base = HEIGHT - BELOW;
    let room = length(base - ABOVE);
    let slot = length(WIDTH) / length(values.len().max(1));
    let width = (slot * 0.72).min(BAR_MAX);
    let bar = |(index, value): (usize, &i64)| {
        let height = room * share((*value).max(0), most);
        // A little is not nothing.
        let height = height.max(if *value > 0 { 2.0 } else { 1.0 });
        Bar {
            class: match (*value > 0, index + 1 == values.len()) {
                (false, _) => "none",
                (true, true) => "bar last",
                (true, false) => "bar",
            },
            x: format!("{:.1}", length(index) * slot + (slot - width) / 2.0),
            y: format!("{:.1}", length(base) - height),
            width: format!("{width:.1}"),
            height: format!("{height:.1}"),
        }
    };
    let label = |x, anchor, text| Label { x, anchor, text };
    Plot {
        id: String::new(),
        title: String::new(),
        text: String::new(),
        most: String::new(),
        width: WIDTH,
        height: HEIGHT,
        base,
        below: HEIGHT - 4,
        bars: values.iter().enumerate().map(bar).collect(),
        labels: vec![label(0, "start", first), label(WIDTH, "end", last)],
    }
}

/// Both are small, or only their ratio matters.
#[expect(clippy::cast_precision_loss, reason = "a bar is not exact to 52 bits")]
fn share(part: i64, whole: i64) -> f64 {
    part as f64 / whole as f64
}

#[expect(clippy::cast_precision_loss, reason = "a plot is small")]
fn length(points: usize) -> f64 {
    points as f64
}
