package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// This file holds what a measurement yields, and how figures are written.

// row compares the two in one piece of work.
type row struct {
	key        string // for bounds and the plot, such as "trim/spread/100000"
	work       string // for readers
	unit       unit
	section    section
	goroutines int // that do it side by side

	theirs, ours figure
	floor        figure // the least that the work takes, whoever does it
	overFloor    figure // how many times that ours takes

	theirAllocs, ourAllocs figure // per call
}

type unit int

const (
	nanoseconds unit = iota
	bytesOfMemory
)

// newRow returns a row of which nothing is measured yet.
func newRow(key, work string) row {
	return row{key: key, work: work, theirs: notRun, ours: notRun, floor: notRun, overFloor: notRun, theirAllocs: notRun, ourAllocs: notRun}
}

// ratio is how many times better ours is.
func (r row) ratio() figure { return r.theirs / r.ours }

// compare fills in what the rounds of both came to.
func (r *row) compare(theirs, ours rounds) {
	r.theirs, r.ours = theirs.median(), ours.median()
}

// compareFloor fills in how ours stands beside the floor.
func (r *row) compareFloor(ours, floor rounds) {
	r.floor, r.overFloor = floor.median(), ours.quickest()/floor.quickest()
}

// unmeasured is what stands for a figure that nobody has measured.
const unmeasured = "not run"

// write writes a figure for people, to three digits.
func (u unit) write(f figure) string {
	switch {
	case !f.measured():
		return unmeasured
	case u == bytesOfMemory:
		return fmt.Sprintf("%.0f B", f)
	case f < 10:
		return fmt.Sprintf("%.1f ns", f)
	case f < 1000:
		return fmt.Sprintf("%.0f ns", f)
	case f < 1e6:
		return digits(f/1e3) + " µs"
	case f < 1e9:
		return digits(f/1e6) + " ms"
	default:
		return digits(f/1e9) + " s"
	}
}

// writeDuration is write for those who have a duration.
func writeDuration(d time.Duration) string { return nanoseconds.write(figure(d)) }

// times writes a ratio; what is not run has none.
func times(f figure) string {
	if !f.measured() {
		return "–"
	}
	if f >= 999.5 {
		last := math.Pow(10, math.Floor(math.Log10(float64(f)))-2) // three digits are plenty
		return thousands(int(math.Round(float64(f)/last)*last)) + " ×"
	}
	return digits(f) + " ×"
}

// perCallAllocs writes allocations per call. A hundredth is what the runtime allocates
// for itself meanwhile.
func perCallAllocs(f figure) string {
	switch {
	case !f.measured():
		return "–"
	case math.Abs(float64(f)-math.Round(float64(f))) < noise:
		return strconv.Itoa(int(math.Round(float64(f))))
	default:
		return fmt.Sprintf("%.2f", f)
	}
}

// noise is what the runtime may allocate for itself per call that is measured.
const noise = 0.01

func digits(f figure) string {
	switch {
	case f >= 99.95:
		return fmt.Sprintf("%.0f", f)
	case f >= 9.995:
		return fmt.Sprintf("%.1f", f)
	default:
		return fmt.Sprintf("%.2f", f)
	}
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
