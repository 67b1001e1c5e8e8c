package bench

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// This file draws how the time of a trim grows with the number of peers.

const plotWidth, plotHeight = 480 * vg.Length(1), 300 * vg.Length(1) // 640 × 400 pixels

// series is a line of the plot.
type series struct {
	name   string
	points plotter.XYs
	color  color.Color
	shape  draw.GlyphDrawer
	dashes []vg.Length
}

// trimSeries takes the lines from the rows about idle trims of a kind.
func trimSeries(rows []row, kind trimKind) []series {
	lines := []series{
		{name: theirs.name, color: color.RGBA{R: 0xc0, G: 0x5a, B: 0x1c, A: 0xff}, shape: draw.CircleGlyph{}},
		{name: ours.name, color: color.RGBA{R: 0x1b, G: 0x62, B: 0xb5, A: 0xff}, shape: draw.BoxGlyph{}},
		{
			name: "floor: copy and sort scores", color: color.RGBA{R: 0x70, G: 0x70, B: 0x70, A: 0xff},
			shape: draw.PyramidGlyph{}, dashes: []vg.Length{4, 3},
		},
	}
	for _, r := range rows {
		size, ok := strings.CutPrefix(r.key, "trim/"+kind.key+"/")
		peers, err := strconv.Atoi(size)
		if !ok || err != nil { // another kind, or a busy one
			continue
		}
		for i, took := range []figure{r.theirs, r.ours, r.floor} {
			if took.measured() && took > 0 {
				lines[i].points = append(lines[i].points, plotter.XY{X: float64(peers), Y: float64(took)})
			}
		}
	}
	return lines
}

// drawPlot writes the plot as an SVG. The caption says where and when it was measured.
func drawPlot(w io.Writer, caption string, lines []series) error {
	plain := font.Font{Typeface: "Liberation", Variant: "Sans", Size: 10}
	p := plot.New()
	p.BackgroundColor = nil // it would end where the plot does
	p.Title.Text = "A trim that closes a tenth, " + spreadScores.name + "\n" + caption
	p.Title.TextStyle.Font = plain
	p.Title.Padding = 6
	p.X.Label.Text, p.Y.Label.Text = "peers", "time"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = decades(peersLabel), decades(timeLabel)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font, axis.Tick.Label.Font = plain, plain
	}
	p.Legend.TextStyle.Font = plain
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, 2
	p.Legend.XOffs, p.Legend.YOffs = 8, -4

	grid := plotter.NewGrid()
	for _, line := range []*draw.LineStyle{&grid.Horizontal, &grid.Vertical} {
		line.Color, line.Width, line.Dashes = color.Gray{Y: 0xdd}, 0.5, nil
	}
	p.Add(grid)
	for _, s := range lines {
		if len(s.points) == 0 {
			return fmt.Errorf("bench: nothing to draw for %s", s.name)
		}
		line, marks, err := plotter.NewLinePoints(s.points)
		if err != nil {
			return err
		}
		line.Color, line.Width, line.Dashes = s.color, 1.5, s.dashes
		marks.Color, marks.Shape, marks.Radius = s.color, s.shape, 3
		p.Add(line, marks)
		p.Legend.Add(s.name, line, marks)
	}
	// Whole decades, so that every line of the grid has a number.
	p.X.Min, p.X.Max = decadeAround(p.X.Min, p.X.Max)
	p.Y.Min, p.Y.Max = decadeAround(p.Y.Min, p.Y.Max)

	canvas := vgsvg.New(plotWidth, plotHeight)
	dc := draw.New(canvas)
	dc.SetColor(color.White) // dark pages would swallow the letters
	dc.Fill(dc.Path())
	p.Draw(draw.Crop(dc, 6, -18, 6, -6)) // the last label sticks out to the right
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Not everybody has the font that the letters were measured with.
	_, err := w.Write(bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")))
	return err
}

// decadeAround widens a range to powers of ten.
func decadeAround(low, high float64) (float64, float64) {
	low = math.Pow(10, math.Floor(math.Log10(low)+1e-9))
	high = math.Pow(10, math.Ceil(math.Log10(high)-1e-9))
	if low == high {
		high *= 10
	}
	return low, high
}

// decades marks powers of ten.
type decades func(v float64) string

func (label decades) Ticks(low, high float64) (ticks []plot.Tick) {
	for v := low; v < high*1.001; v *= 10 {
		ticks = append(ticks, plot.Tick{Value: v, Label: label(v)})
		for n := 2.0; n < 10 && n*v < high; n++ {
			ticks = append(ticks, plot.Tick{Value: n * v})
		}
	}
	return ticks
}

func peersLabel(v float64) string { return thousands(int(math.Round(v))) }

func timeLabel(v float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if v >= u.size*0.999 {
			return fmt.Sprintf("%.0f %s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f ns", v)
}
