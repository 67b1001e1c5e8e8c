package connmgrprom

import "encoding"

// This file counts under the words that the core has for its constants.

// other is the word for what a newer core counts and this package does not know.
const other = "other"

// constant is what has a word.
type constant interface {
	~uint8
	encoding.TextMarshaler
}

// wordOf returns the word of a constant, "" if there is no such constant, which ends the
// list of its kind.
func wordOf[K constant](k K) string {
	word, err := k.MarshalText()
	if err != nil {
		return ""
	}
	return string(word)
}

// tally is what was counted under words, in the order of the constants. It has a place
// for every constant from the start, since an increase from nothing to one is one that
// Prometheus does not see.
type tally struct {
	words  []string
	counts map[string]float64
}

// newTally lists the constants of a kind from the first on, as far as they have words;
// those that wanted does not want are left out. A nil wanted wants all.
func newTally[K constant](wanted func(K) bool) *tally {
	t := &tally{counts: make(map[string]float64)}
	for k := K(0); wordOf(k) != ""; k++ {
		if wanted == nil || wanted(k) {
			t.add(wordOf(k), 0)
		}
	}
	return t
}

// add counts under a word; several constants without one share a place.
func (t *tally) add(word string, n uint64) {
	if word == "" {
		word = other
	}
	if _, known := t.counts[word]; !known {
		t.words = append(t.words, word)
	}
	t.counts[word] += float64(n)
}

// tallied puts the counts of a kind under their words.
func tallied[K constant](counts map[K]uint64, wanted func(K) bool) *tally {
	t := newTally(wanted)
	for k, n := range counts {
		t.add(wordOf(k), n)
	}
	return t
}
