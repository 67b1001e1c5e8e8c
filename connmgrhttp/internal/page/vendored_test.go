package page

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"testing"
)

// This file holds that the chart library is what its author published.

// vendored is the SHA-256 of each file as scripts/vendor-page.sh prints it.
var vendored = map[string]string{
	"LICENSE":           "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
	"uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
	"uPlot.min.css":     "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}

func TestTheChartLibraryIsAsPublished(t *testing.T) {
	const dir = "static/assets/uplot"
	entries, err := fs.ReadDir(embedded, dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(vendored) {
		t.Errorf("%s has %d files, want the %d that scripts/vendor-page.sh puts there", dir, len(entries), len(vendored))
	}
	for _, e := range entries {
		text, err := embedded.ReadFile(dir + "/" + e.Name())
		if err != nil {
			t.Error(err)
			continue
		}
		hash := sha256.Sum256(text)
		if got := hex.EncodeToString(hash[:]); got != vendored[e.Name()] {
			t.Errorf("%s/%s has the SHA-256 %s, want %q; do not edit it, run scripts/vendor-page.sh", dir, e.Name(), got, vendored[e.Name()])
		}
	}
}
