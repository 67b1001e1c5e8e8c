package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPlotIsAnSVGWithThreeLines(t *testing.T) {
	var svg bytes.Buffer
	if err := someReport().plot(&svg); err != nil {
		t.Fatal(err)
	}
	var texts []string
	colors := make(map[string]int)
	root := ""
	for d := xml.NewDecoder(bytes.NewReader(svg.Bytes())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if root == "" {
				root = token.Name.Local
			}
			for _, a := range token.Attr {
				if _, stroke, ok := strings.Cut(a.Value, "stroke:"); ok {
					color, _, _ := strings.Cut(stroke, ";")
					colors[color]++
				}
			}
		case xml.CharData:
			texts = append(texts, string(token))
		}
	}
	if root != "svg" {
		t.Errorf("the plot is a %q, want svg", root)
	}
	all := strings.Join(texts, "\n")
	for _, want := range []string{
		"BasicConnMgr", "connmgr", "floor", "1,000", "10,000", "100,000", "10 µs", "1 ms", "1 s", "peers",
		"Some Processor", "2030-04-05",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the plot does not say %q:\n%s", want, all)
		}
	}
	for _, color := range []string{"#C05A1C", "#1B62B5", "#707070"} {
		if colors[color] == 0 {
			t.Errorf("no line has the color %s; there are %v", color, colors)
		}
	}
	var again bytes.Buffer
	if err := someReport().plot(&again); err != nil || !bytes.Equal(svg.Bytes(), again.Bytes()) {
		t.Errorf("the same figures gave another plot (error %v)", err)
	}
}

func TestPlotHasIdleTrimsOfOneKind(t *testing.T) {
	for _, line := range trimSeries(someReport().rows, spreadScores) {
		if len(line.points) != 3 {
			t.Errorf("%s has %d points, want 3: one for each size, and none for busy managers", line.name, len(line.points))
		}
	}
	var none bytes.Buffer
	if err := drawPlot(&none, "", trimSeries(someReport().rows, equalScores)); err == nil {
		t.Error("a plot of nothing was drawn, want an error")
	}
}
