package connmgr

import (
	"math/rand/v2"
	"testing"
)

// The index is held against a map: whatever is added and removed, in whatever order,
// both find the same.
func TestTheIndexFindsWhatAMapFinds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, hashes := range []uint32{1, 2, 7, 64, 1 << 20} { // few of them collide all the time
		var x index
		naive := make(map[ref]uint32)
		spread := func(n uint32) uint32 { return n * 0x9e3779b1 } // ends of the table included
		for step := range ref(20_000) {
			if growing := step/2000%2 == 0; len(naive) == 0 || random.IntN(3) > 0 == growing {
				hash := spread(random.Uint32N(hashes))
				x.add(hash, step+1)
				naive[step+1] = hash
			} else {
				for r, hash := range naive {
					x.remove(hash, r)
					delete(naive, r)
					break
				}
			}
			if step%97 != 0 {
				continue
			}
			for r, hash := range naive {
				if !x.has(hash, r) {
					t.Fatalf("with %d hashes, after %d steps: record %d is not found under its hash %#x", hashes, step, r, hash)
				}
			}
			if got := x.all(); got != len(naive) || x.count != got {
				t.Fatalf("with %d hashes, after %d steps: %d entries, count %d, want %d", hashes, step, got, x.count, len(naive))
			}
		}
	}
}

// has reports whether a search for a hash comes across a record. A search must end.
func (x *index) has(hash uint32, r ref) bool {
	steps := 0
	for i, place := x.next(hash, hash); i != 0 && steps <= len(x.entries); i, place = x.next(hash, place) {
		if i == r {
			return true
		}
		steps++
	}
	return false
}

func (x *index) all() (n int) {
	for _, e := range x.entries {
		if e.ref != 0 {
			n++
		}
	}
	return n
}

func TestAnEmptyIndexFindsNothing(t *testing.T) {
	var x index
	if found, _ := x.next(7, 7); found != 0 {
		t.Errorf("an empty index finds record %d", found)
	}
	x.add(7, 1)
	x.remove(7, 1)
	if found, _ := x.next(7, 7); found != 0 {
		t.Errorf("an index that is empty again finds record %d", found)
	}
}
