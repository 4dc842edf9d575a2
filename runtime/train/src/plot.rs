//! The loss curve as pictures: the raw losses in grey, their smoothed course in blue.

use std::fmt::Write;

/// Across and down, in pixels.
type Point = (f64, f64);

/// Red, green, blue.
type Colour = [u8; 3];

const WIDTH: usize = 640;
const HEIGHT: usize = 400;
const MARGIN: usize = 48;
const GREY: Colour = [0xBB, 0xBB, 0xBB];
const BLUE: Colour = [0x1F, 0x77, 0xB4];
const BLACK: Colour = [0x33, 0x33, 0x33];

/// Exponential smoothing whose strength grows with the number of points, as the original draws it.
pub fn smoothed(values: &[f64]) -> Vec<f64> {
    let weight = 1.8 * (1.0 / (1.0 + (-0.05 * values.len() as f64).exp()) - 0.5);
    let mut last = values.first().copied().unwrap_or(0.0);
    let smooth = |value: &f64| {
        last = last * weight + (1.0 - weight) * value;
        last
    };
    values.iter().map(smooth).collect()
}

/// Points of a curve in the picture.
struct Frame {
    first: f64,
    steps: f64,
    least: f64,
    span: f64,
}

impl Frame {
    fn around(points: &[(u64, f64)]) -> Self {
        let values = points.iter().map(|(_, loss)| *loss);
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::NEG_INFINITY, f64::max);
        let first = points.first().map_or(0, |(step, _)| *step) as f64;
        let end = points.last().map_or(0, |(step, _)| *step) as f64;
        Self {
            first,
            steps: (end - first).max(1.0),
            least: if least.is_finite() { least } else { 0.0 },
            span: if most > least { most - least } else { 1.0 },
        }
    }

    fn place(&self, step: u64, loss: f64) -> (f64, f64) {
        let (width, height) = (WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN);
        let right = (step as f64 - self.first) / self.steps * width as f64;
        let up = (loss - self.least) / self.span * height as f64;
        (MARGIN as f64 + right, (HEIGHT - MARGIN) as f64 - up)
    }

    fn curves(&self, points: &[(u64, f64)]) -> [(Vec<Point>, Colour); 2] {
        let losses: Vec<f64> = points.iter().map(|(_, loss)| *loss).collect();
        let raw = points.iter().map(|(step, loss)| self.place(*step, *loss));
        let smooth = points.iter().zip(smoothed(&losses));
        let smooth = smooth.map(|((step, _), loss)| self.place(*step, loss));
        [(raw.collect(), GREY), (smooth.collect(), BLUE)]
    }
}

/// Draws `(step, loss)` points as SVG.
pub fn svg(points: &[(u64, f64)]) -> String {
    let frame = Frame::around(points);
    let (right, bottom) = (WIDTH - MARGIN, HEIGHT - MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <path d=\"M{MARGIN} {MARGIN}V{bottom}H{right}\" fill=\"none\" stroke=\"#333333\"/>\n"
    );
    for (curve, [r, g, b]) in frame.curves(points) {
        let mut list = String::new();
        for (x, y) in curve {
            // Writing to a String cannot fail.
            let _ = write!(list, "{x:.1},{y:.1} ");
        }
        let list = list.trim_end();
        let _ = writeln!(
            text,
            "<polyline points=\"{list}\" fill=\"none\" stroke=\"#{r:02x}{g:02x}{b:02x}\" stroke-width=\"1.5\"/>"
        );
    }
    let (least, most) = (frame.least, frame.least + frame.span);
    let (start, end) = (frame.first, frame.first + frame.steps);
    let _ = write!(
        text,
        "<text x=\"4\" y=\"{MARGIN}\">{most:.3}</text>\n\
         <text x=\"4\" y=\"{bottom}\">{least:.3}</text>\n\
         <text x=\"{MARGIN}\" y=\"{}\">{start}</text>\n\
         <text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{end}</text>\n\
         <text x=\"{}\" y=\"24\" text-anchor=\"middle\">training loss by step</text>\n</svg>\n",
        bottom + 18,
        bottom + 18,
        WIDTH / 2,
    );
    text
}

/// Draws `(step, loss)` points as PNG: axes and curves, no text.
pub fn png(points: &[(u64, f64)]) -> std::io::Result<Vec<u8>> {
    let mut pixels = vec![0xFF; WIDTH * HEIGHT * 3];
    let (left, right) = (MARGIN as f64, (WIDTH - MARGIN) as f64);
    let (top, bottom) = (MARGIN as f64, (HEIGHT - MARGIN) as f64);
    line(&mut pixels, (left, top), (left, bottom), BLACK);
    line(&mut pixels, (left, bottom), (right, bottom), BLACK);
    for (curve, colour) in Frame::around(points).curves(points) {
        for pair in curve.windows(2) {
            line(&mut pixels, pair[0], pair[1], colour);
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH as u32, HEIGHT as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

fn line(pixels: &mut [u8], from: (f64, f64), to: (f64, f64), colour: Colour) {
    let (across, down) = (to.0 - from.0, to.1 - from.1);
    let dots = across.abs().max(down.abs()).ceil().max(1.0);
    for dot in 0..=(dots as usize) {
        let part = dot as f64 / dots;
        let x = ((from.0 + across * part).round() as usize).min(WIDTH - 1);
        let y = ((from.1 + down * part).round() as usize).min(HEIGHT - 1);
        let start = (y * WIDTH + x) * 3;
        pixels[start..start + 3].copy_from_slice(&colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_lies_between_the_points() {
        let curve = smoothed(&[4.0, 2.0, 3.0]);
        assert!((curve[0] - 4.0).abs() < 1e-12);
        assert!(curve[1] > 2.0 && curve[1] < 4.0, "{curve:?}");
        assert_eq!(smoothed(&[]), [0.0; 0]);
    }

    #[test]
    fn pictures_are_drawn_whatever_the_points() {
        for points in [vec![], vec![(1, 2.0)], vec![(1, 4.0), (2, 3.0), (3, 1.0)]] {
            let text = svg(&points);
            assert!(
                text.ends_with("</svg>\n") && !text.contains("NaN"),
                "{text}"
            );
            let bytes = png(&points).unwrap();
            let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
            let mut reader = decoder.read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            let blue = pixels.chunks(3).filter(|p| *p == BLUE).count();
            assert_eq!(blue > 0, points.len() > 1, "{} points", points.len());
        }
    }
}
