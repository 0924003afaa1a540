//! A chart of curves over a power-of-two axis, as SVG.

use std::fmt::Write;

use super::escaped;
use super::scale::{LogScale, decimal_ticks, powers_of_two, round_range};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
/// Room for the axes' labels, and on the right for the names of the curves.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 148.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;
/// Least distance between the names of two curves.
const NAME_DISTANCE: f64 = 16.0;
/// Room for the title of each chart where all stand in one file.
const TITLE_HEIGHT: f64 = 54.0;

/// Colours of page and charts, for light and dark.
pub(super) const STYLE: &str = include_str!("style.css");

/// Curves over one axis.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// What it shows, in a sentence.
    pub(super) note: String,
    pub(super) x_label: String,
    pub(super) x_text: fn(f64) -> String,
    pub(super) y_label: String,
    pub(super) y_text: fn(f64) -> String,
    pub(super) series: Vec<Series>,
    pub(super) mark: Option<Mark>,
}

/// One curve.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    /// Names the colour in the style.
    pub(super) class: &'static str,
    pub(super) dashed: bool,
    pub(super) dots: Vec<Dot>,
    /// The setting of its knee.
    pub(super) knee: Option<f64>,
}

/// A point of a curve with its interval.
#[derive(Clone, Debug)]
pub(super) struct Dot {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// A setting that follows from the chart.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) x: f64,
    /// Between which settings it may lie.
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) label: String,
}

impl Chart {
    /// The chart as an `svg` element.
    pub(super) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escaped(&self.title)
        );
        // Writing to a string cannot fail.
        let _never = self.draw(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    fn draw(&self, svg: &mut String) -> std::fmt::Result {
        let xs = || {
            self.series
                .iter()
                .flat_map(|series| series.dots.iter().map(|dot| dot.x))
        };
        let low = xs().min_by(f64::total_cmp).unwrap_or(1.0);
        let high = xs().max_by(f64::total_cmp).unwrap_or(1.0);
        let ys = self.series.iter().flat_map(|series| {
            series
                .dots
                .iter()
                .flat_map(|dot| [dot.y, dot.low, dot.high])
        });
        let y_range = round_range(ys);
        let x = LogScale::new((low, high), (LEFT, WIDTH - RIGHT));
        let y = LogScale::new(y_range, (HEIGHT - BOTTOM, TOP));
        self.draw_mark_span(svg, &x)?;
        self.draw_axes(svg, (&x, low, high), (&y, y_range))?;
        self.draw_mark(svg, &x)?;
        // Bands first: a curve is not to lie under the band of another one.
        for series in &self.series {
            series.draw_band(svg, &x, &y)?;
        }
        for series in &self.series {
            series.draw(svg, &x, &y, self)?;
        }
        self.draw_names(svg, &x, &y)
    }

    fn draw_axes(
        &self,
        svg: &mut String,
        (x, x_low, x_high): (&LogScale, f64, f64),
        (y, (y_low, y_high)): (&LogScale, (f64, f64)),
    ) -> std::fmt::Result {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in decimal_ticks(y_low, y_high) {
            let place = y.place(tick);
            write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>\
                 <text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                place + 4.0,
                escaped(&(self.y_text)(tick))
            )?;
        }
        for (tick, labelled) in powers_of_two(x_low, x_high) {
            let place = x.place(tick);
            write!(
                svg,
                "<line class=\"stub\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{bottom}\" y2=\"{}\"/>",
                bottom + 4.0
            )?;
            if labelled {
                write!(
                    svg,
                    "<text class=\"tick\" text-anchor=\"middle\" x=\"{place:.1}\" y=\"{}\">{}</text>",
                    bottom + 18.0,
                    escaped(&(self.x_text)(tick))
                )?;
            }
        }
        write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"label\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{}\">{}</text>\
             <text class=\"label\" x=\"{}\" y=\"14\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 8.0,
            escaped(&self.x_label),
            LEFT - 66.0,
            escaped(&self.y_label)
        )
    }

    fn draw_mark_span(&self, svg: &mut String, x: &LogScale) -> std::fmt::Result {
        let Some(mark) = self.mark.as_ref().filter(|mark| mark.low < mark.high) else {
            return Ok(());
        };
        let (from, to) = (x.place(mark.low), x.place(mark.high));
        write!(
            svg,
            "<rect class=\"span\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"/>",
            to - from,
            HEIGHT - TOP - BOTTOM
        )
    }

    fn draw_mark(&self, svg: &mut String, x: &LogScale) -> std::fmt::Result {
        let Some(mark) = &self.mark else {
            return Ok(());
        };
        let place = x.place(mark.x);
        let anchor = if place > WIDTH - RIGHT - 70.0 {
            "end"
        } else if place < LEFT + 70.0 {
            "start"
        } else {
            "middle"
        };
        write!(
            svg,
            "<line class=\"mark\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{TOP}\" y2=\"{}\"/>\
             <text class=\"mark-label\" text-anchor=\"{anchor}\" x=\"{place:.1}\" y=\"{}\">{}</text>",
            HEIGHT - BOTTOM,
            TOP - 8.0,
            escaped(&mark.label)
        )
    }

    /// The names of the curves at their ends, apart from each other.
    fn draw_names(&self, svg: &mut String, x: &LogScale, y: &LogScale) -> std::fmt::Result {
        let ends = self
            .series
            .iter()
            .filter_map(|series| Some((series, series.dots.last()?)));
        let mut names: Vec<(&Series, f64, f64)> = ends
            .map(|(series, dot)| (series, x.place(dot.x), y.place(dot.y)))
            .collect();
        names.sort_by(|a, b| a.2.total_cmp(&b.2));
        let wanted: Vec<f64> = names.iter().map(|name| name.2).collect();
        let places = apart(&wanted, HEIGHT - BOTTOM);
        for ((series, end_x, end_y), place) in names.iter().zip(places) {
            let name_x = WIDTH - RIGHT + 16.0;
            write!(
                svg,
                "<path class=\"leader\" d=\"M{:.1} {end_y:.1}L{:.1} {place:.1}\"/>\
                 <text class=\"name {}\" x=\"{name_x}\" y=\"{:.1}\">{}</text>",
                end_x + 6.0,
                name_x - 4.0,
                series.class,
                place + 4.0,
                escaped(&series.name)
            )?;
        }
        Ok(())
    }
}

impl Series {
    /// A curve of the points that a logarithmic scale can show.
    pub(super) fn new(name: impl Into<String>, class: &'static str, dots: Vec<Dot>) -> Self {
        let shown = |value: f64| value.is_finite() && value > 0.0;
        let mut dots: Vec<Dot> = dots
            .into_iter()
            .filter(|dot| [dot.x, dot.y].into_iter().all(shown))
            .collect();
        for dot in &mut dots {
            if ![dot.low, dot.high].into_iter().all(shown) {
                (dot.low, dot.high) = (dot.y, dot.y);
            }
        }
        Series {
            name: name.into(),
            class,
            dashed: false,
            dots,
            knee: None,
        }
    }

    fn draw_band(&self, svg: &mut String, x: &LogScale, y: &LogScale) -> std::fmt::Result {
        if self.dots.iter().all(|dot| dot.low >= dot.high) {
            return Ok(());
        }
        let lows = self.dots.iter().map(|dot| (dot.x, dot.low));
        let highs = self.dots.iter().rev().map(|dot| (dot.x, dot.high));
        let outline = path(lows.chain(highs), x, y);
        write!(
            svg,
            "<path class=\"band {}\" d=\"M{outline}Z\"/>",
            self.class
        )
    }

    fn draw(
        &self,
        svg: &mut String,
        x: &LogScale,
        y: &LogScale,
        chart: &Chart,
    ) -> std::fmt::Result {
        let class = self.class;
        let dashed = if self.dashed { " dashed" } else { "" };
        let line = path(self.dots.iter().map(|dot| (dot.x, dot.y)), x, y);
        write!(svg, "<path class=\"line {class}{dashed}\" d=\"M{line}\"/>")?;
        for dot in &self.dots {
            let is_knee = self.knee == Some(dot.x);
            let (radius, kind) = if is_knee { (6.0, "knee") } else { (3.0, "dot") };
            let interval = if dot.low < dot.high {
                format!(
                    ", from {} to {}",
                    (chart.y_text)(dot.low),
                    (chart.y_text)(dot.high)
                )
            } else {
                String::new()
            };
            let tip = format!(
                "{}, {}: {}{interval}{}",
                self.name,
                (chart.x_text)(dot.x),
                (chart.y_text)(dot.y),
                if is_knee { " (knee)" } else { "" }
            );
            write!(
                svg,
                "<circle class=\"{kind} {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"><title>{}</title></circle>",
                x.place(dot.x),
                y.place(dot.y),
                escaped(&tip)
            )?;
        }
        Ok(())
    }
}

/// Points of a path, apart by lines.
fn path(points: impl Iterator<Item = (f64, f64)>, x: &LogScale, y: &LogScale) -> String {
    let points: Vec<String> = points
        .map(|(at, value)| format!("{:.1} {:.1}", x.place(at), y.place(value)))
        .collect();
    points.join("L")
}

/// Places in order, each at least [`NAME_DISTANCE`] after the one before, none beyond the end, all near where they were
/// wanted.
fn apart(wanted: &[f64], end: f64) -> Vec<f64> {
    let mut places: Vec<f64> = Vec::with_capacity(wanted.len());
    for place in wanted {
        let least = places
            .last()
            .map_or(f64::NEG_INFINITY, |last| last + NAME_DISTANCE);
        places.push(place.max(least));
    }
    let mut most = end;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - NAME_DISTANCE;
    }
    places
}

/// All charts below each other, as one file.
pub(super) fn svg_of_all(charts: &[Chart], title: &str) -> String {
    let height = charts.len() as f64 * (HEIGHT + TITLE_HEIGHT) + TITLE_HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\">\n<style>{STYLE}</style>\n<rect class=\"surface\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"8\" y=\"32\">{}</text>\n",
        escaped(title)
    );
    for (i, chart) in charts.iter().enumerate() {
        let top = TITLE_HEIGHT + i as f64 * (HEIGHT + TITLE_HEIGHT);
        // Writing to a string cannot fail.
        let _never = write!(
            svg,
            "<text class=\"subtitle\" x=\"8\" y=\"{}\">{}</text>\n<g transform=\"translate(0 {})\">{}</g>\n",
            top + 22.0,
            escaped(&chart.title),
            top + TITLE_HEIGHT - 16.0,
            chart.svg().replacen(
                "<svg ",
                &format!("<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" "),
                1
            )
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(dots: Vec<Dot>) -> Chart {
        Chart {
            title: "a < b".into(),
            note: String::new(),
            x_label: "threads".into(),
            x_text: |x| format!("{x}"),
            y_label: "MB/s".into(),
            y_text: |y| format!("{y:.0}"),
            series: vec![Series {
                knee: dots.first().map(|dot| dot.x),
                ..Series::new("read", "read", dots)
            }],
            mark: Some(Mark {
                x: 2.0,
                low: 1.0,
                high: 4.0,
                label: "S-Paral".into(),
            }),
        }
    }

    fn dot(x: f64, y: f64) -> Dot {
        Dot {
            x,
            y,
            low: y * 0.9,
            high: y * 1.1,
        }
    }

    #[test]
    fn a_chart_has_its_dots_its_knee_and_its_interval() {
        let svg = chart(vec![dot(1.0, 10.0), dot(2.0, 20.0), dot(4.0, 21.0)]).svg();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches("class=\"knee read\"").count(), 1);
        for part in [
            "class=\"band read\"",
            "class=\"span\"",
            "S-Paral",
            "a &lt; b",
        ] {
            assert!(svg.contains(part), "{part}");
        }
    }

    #[test]
    fn charts_of_nothing_or_of_nonsense_are_drawn_without_it() {
        for dots in [
            vec![],
            vec![dot(1.0, 0.0)],
            vec![dot(1.0, f64::NAN), dot(2.0, f64::INFINITY)],
        ] {
            let svg = chart(dots).svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn names_keep_their_distance_and_stay_on_the_page() {
        let places = apart(&[10.0, 12.0, 100.0, 310.0, 312.0], 314.0);
        for pair in places.windows(2) {
            assert!(pair[1] - pair[0] >= NAME_DISTANCE - 1e-9, "{places:?}");
        }
        assert!(places.iter().all(|place| *place <= 314.0));
        assert_eq!(places[0], 10.0);
    }
}
