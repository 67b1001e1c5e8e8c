package demo

import (
	"strings"
	"testing"
	"time"
)

// This file judges fates of several trims: each trim is held against those who had
// settled when it began.

func TestEachTrimIsHeldAgainstThoseWhoHadSettledByThen(t *testing.T) {
	first := time.Now()
	second := first.Add(time.Minute)
	in := func(f Fate, trim int, started time.Time) Fate {
		f.Trim, f.trimStarted = trim, started
		return f
	}
	since := func(f Fate, settled time.Time) Fate {
		f.settled = settled
		return f
	}
	for _, c := range []struct {
		name  string
		nodes []Fate
		want  string // in the detail of a broken promise; empty if it is kept
	}{
		{
			name:  "a worse one settled after the trim",
			nodes: []Fate{in(went("n001", 5), 1, first), since(stayed("n002", -1000), first.Add(1))},
		},
		{
			name:  "a worse one had settled just then",
			nodes: []Fate{in(went("n001", 5), 1, first), since(stayed("n002", -1000), first)},
			want:  "trim 1: best that went: 5 (n001), worst that stayed: -1000 (n002)",
		},
		{
			name:  "a worse one was passed over, and went in the next trim",
			nodes: []Fate{in(went("n001", 5), 1, first), since(in(went("n002", 2), 2, second), first)},
			want:  "trim 1: best that went: 5 (n001), worst that stayed: 2 (n002)",
		},
		{
			name:  "a better one went in the next trim",
			nodes: []Fate{in(went("n001", 2), 1, first), since(in(went("n002", 5), 2, second), first)},
		},
		{
			name: "the second trim took the wrong one",
			nodes: []Fate{
				in(went("n001", 0), 1, first), in(went("n002", 7), 2, second),
				since(stayed("n003", 6), second), since(stayed("n004", 9), first),
			},
			want: "trim 2: best that went: 7 (n002), worst that stayed: 6 (n003)",
		},
	} {
		bad := broken(judged(9, c.nodes...))
		switch {
		case c.want == "" && len(bad) > 0:
			t.Errorf("%s: broken promises are %+v, want none", c.name, bad)
		case c.want != "" && (len(bad) != 1 || !strings.Contains(bad[0].Detail, c.want)):
			t.Errorf("%s: broken promises are %+v, want one that says %q", c.name, bad, c.want)
		}
	}
}
