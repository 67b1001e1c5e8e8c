package page

import (
	"math"
	"regexp"
	"strconv"
	"testing"
)

// This file holds that everything on the page can be read, in light and in the dark.

// luminance is how bright a colour "#rrggbb" is, as WCAG 2 has it.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(colour[1:7], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	part := func(shift int) float64 {
		c := float64(n>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*part(16) + 0.7152*part(8) + 0.0722*part(0)
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	la, lb := luminance(t, a), luminance(t, b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func TestTextsHaveContrastInLightAndDark(t *testing.T) {
	css, err := embedded.ReadFile("static/assets/base.css")
	if err != nil {
		t.Fatal(err)
	}
	colours := make(map[string][2]string)
	for _, m := range regexp.MustCompile(`--([\w-]+): light-dark\((#\w+), (#\w+)\)`).FindAllStringSubmatch(string(css), -1) {
		colours[m[1]] = [2]string{m[2], m[3]}
	}
	colours["white"] = [2]string{"#ffffff", "#ffffff"}

	grounds := []string{"ground", "card", "raised"}
	for _, c := range []struct {
		ink     string
		grounds []string
		least   float64
	}{
		{"text", append(grounds, "bad-ground"), 7},
		{"dim", grounds, 4.5},
		{"link", grounds, 4.5},
		{"good", grounds, 4.5},
		{"new", grounds, 4.5},
		{"safe", grounds, 4.5},
		{"warn", grounds, 4.5},
		{"bad", append(grounds, "bad-ground"), 4.5},
		{"white", []string{"primary", "bad-solid"}, 4.5},
		// What is no text but has to be seen: edges of inputs, the focus, the chart's lines.
		{"edge", grounds, 3},
		{"focus", grounds, 3},
		{"chart-open", []string{"card"}, 3},
		{"chart-inbound", []string{"card"}, 3},
		{"chart-outbound", []string{"card"}, 3},
		{"chart-low_water", []string{"card"}, 3},
		{"chart-high_water", []string{"card"}, 3},
		{"chart-hard_limit", []string{"card"}, 3},
	} {
		for _, ground := range c.grounds {
			for i, mode := range []string{"light", "dark"} {
				ink, on := colours[c.ink][i], colours[ground][i]
				if ink == "" || on == "" {
					t.Errorf("base.css has no colour %s or %s", c.ink, ground)
					continue
				}
				if got := contrast(t, ink, on); got < c.least {
					t.Errorf("%s: %s %s on %s %s has a contrast of %.2f, want at least %.1f", mode, c.ink, ink, ground, on, got, c.least)
				}
			}
		}
	}
}
