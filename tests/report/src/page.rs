//! An HTML page with plots, for people who would rather look at a rollout than read it. It needs nothing from elsewhere.

use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::fmt::Write as _;

/// A plot over time.
#[derive(Clone, Debug, Default)]
pub struct Plot {
    /// What is to be seen.
    pub title: String,
    /// What is counted upwards, with its unit.
    pub of: String,
    /// Lines: their names, and seconds with what was then.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
    /// Moments in seconds, and what they stand for.
    pub moments: Vec<(f64, String)>,
}

const SIZE: (u32, u32) = (860, 320);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 96, 20),
    RGBColor(44, 140, 60),
    RGBColor(148, 80, 170),
    RGBColor(110, 80, 60),
    RGBColor(90, 90, 90),
];

/// The page: a heading, a table of figures, and the plots.
///
/// # Errors
/// If something cannot be drawn.
pub fn page(title: &str, figures: &[(String, String)], plots: &[Plot]) -> Result<String, Box<dyn Error>> {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n<table>\n",
        title = escaped(title)
    );
    for (name, value) in figures {
        writeln!(html, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(value))?;
    }
    html.push_str("</table>\n");
    for plot in plots {
        writeln!(html, "<h2>{}</h2>\n{}", escaped(&plot.title), plot.svg()?)?;
    }
    html.push_str("</body></html>\n");
    Ok(html)
}

const STYLE: &str = "body{font:15px/1.4 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em}\
                     table{border-collapse:collapse}th{text-align:left;font-weight:normal;padding-right:2em}\
                     td{font-variant-numeric:tabular-nums}h2{font-size:1em;margin:2em 0 0}svg{max-width:100%;height:auto}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Plot {
    fn svg(&self) -> Result<String, Box<dyn Error>> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.draw(&area).map_err(|error| error.to_string())?;
            area.present().map_err(|error| error.to_string())?;
        }
        Ok(svg)
    }

    fn draw<'a>(&self, area: &DrawingArea<SVGBackend<'a>, Shift>) -> Result<(), Box<dyn Error + 'a>> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let last = points().map(|(x, _)| *x).chain(self.moments.iter().map(|(x, _)| *x)).fold(0.0, f64::max);
        let most = points().map(|(_, y)| *y).fold(0.0, f64::max);
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..last.max(1e-9) * 1.02, 0.0..most.max(1e-9) * 1.05)?;
        chart.configure_mesh().x_desc("seconds").y_desc(&self.of).light_line_style(WHITE).draw()?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            chart.draw_series(line)?.label(name).legend(swatch(*colour));
        }
        for (at, name) in &self.moments {
            let line = LineSeries::new([(*at, 0.0), (*at, most * 1.05)], BLACK.mix(0.5).stroke_width(1));
            chart
                .draw_series(line)?
                .label(format!("{name}: {at:.3} s"))
                .legend(swatch(RGBColor(128, 128, 128)));
        }
        let labels = chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleMiddle)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw();
        labels.map_err(Into::into)
    }
}

fn swatch(colour: RGBColor) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_all_that_it_is_given() {
        let plot = Plot {
            title: "Hosts & time".to_owned(),
            of: "hosts".to_owned(),
            lines: vec![("complete".to_owned(), vec![(0.0, 0.0), (1.0, 5.0)]), ("idle".to_owned(), vec![])],
            moments: vec![(0.5, "bound".to_owned())],
        };
        let figures = [("time ÷ bound".to_owned(), "1.02 <".to_owned())];
        let html = page("A rollout", &figures, &[plot, Plot::default()]).expect("it can be drawn");
        for part in
            ["<h1>A rollout</h1>", "1.02 &lt;", "Hosts &amp; time", "complete", "bound: 0.500 s", "seconds"]
        {
            assert!(html.contains(part), "{part} in {html}");
        }
        assert_eq!(html.matches("<svg").count(), 2);
        assert!(!html.contains("<script"), "a page that runs nothing");
    }
}
