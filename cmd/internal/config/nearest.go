package config

import (
	"slices"
	"strings"
)

// This file finds the name that somebody who mistyped one may have meant.

// nearest returns the name closest to a word, and false if none is close: at most a third
// of the word's letters may be wrong.
func nearest(word string, names []string) (best string, found bool) {
	least := max(1, len(word)/3) + 1
	for _, name := range names {
		if d := distance(word, name); d < least {
			best, least, found = name, d, true
		}
	}
	return best, found
}

// distance is the number of letters to add, drop, change or swap with the next to make
// one word of the other.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(last[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// sameWords returns the one field whose key or flag has all the words of a variable of the
// environment, in any order: CONNMGR_LOW_WATER is watermarks.low, whose flag is
// --low-water.
func sameWords(variable string) *field {
	words := strings.Split(strings.ToLower(strings.TrimPrefix(variable, envPrefix)), "_")
	var found *field
	for _, f := range fields {
		for _, name := range []string{f.key, f.flagName()} {
			has := strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '-' })
			if !slices.ContainsFunc(words, func(w string) bool { return !slices.Contains(has, w) }) {
				if found != nil && found != f {
					return nil
				}
				found = f
			}
		}
	}
	return found
}
