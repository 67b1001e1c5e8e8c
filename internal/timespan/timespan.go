// Package timespan writes spans of time for people. The API's sentences and the command's
// tables show the same ones.
package timespan

import (
	"fmt"
	"time"
)

// String returns a span as people care for it: "42s", "3m05s", "2h10m", "3d04h". A
// negative one is "0s".
func String(d time.Duration) string {
	const day = 24 * time.Hour
	d = max(d, 0).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%02dh", d/day, d%day/time.Hour)
	}
}
