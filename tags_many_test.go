package connmgr_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
)

// These tests give one peer more tags than most peers have. Protocols that tag by
// session do that, and with names that are long and alike.

func TestTagsAreFoundHoweverManyThereAre(t *testing.T) {
	m, host := newNode(t, connmgr.Config{})
	host.Connect("p")
	name := func(i int) string { return fmt.Sprint("session ", i) }
	for n := range 40 {
		m.TagPeer("p", name(n), 1)
		for i := range n + 1 {
			m.TagPeer("p", name(i), 10*i)
			m.UpsertTag("p", name(i), func(v int) int {
				if v != 10*i {
					t.Errorf("of %d tags, the %d-th is %d, want %d", n+1, i, v, 10*i)
				}
				return v + 1
			})
		}
		want := 0
		for i := range n + 1 {
			want += 10*i + 1
		}
		expectSum(t, m, "p", want)
		m.UntagPeer("p", name(n+1)) // is not there
		m.UpsertTag("p", name(n+1), func(v int) int {
			if v != 0 {
				t.Errorf("of %d tags, one that is not there is %d", n+1, v)
			}
			return 5
		})
		expectSum(t, m, "p", want+5)
		m.UntagPeer("p", name(n+1))
		expectSum(t, m, "p", want)
	}
}

func TestTheLastOfManyTagsIsFoundAboutAsFastAsTheFirst(t *testing.T) {
	const tags, length = 200, 1 << 16 // so long that comparing every name would show
	m := newManager(t, connmgr.Config{HighWater: 1 << 30, ManualStart: true})
	names := make([]string, tags)
	for i := range names {
		names[i] = fmt.Sprintf("%s%08d", strings.Repeat("x", length), i)
		m.TagPeer("p", names[i], 1)
	}
	// The best of many tries, since others use the machine as well.
	best := func(name string) time.Duration {
		best := time.Duration(1 << 62)
		for range 50 {
			start := time.Now()
			m.TagPeer("p", name, 2)
			best = min(best, time.Since(start))
		}
		return best
	}
	if first, last := best(names[0]), best(names[tags-1]); last > 10*first {
		t.Errorf("tagging takes %v for the first of %d tags and %v for the last, want about the same", first, tags, last)
	}
}
