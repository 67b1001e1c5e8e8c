package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dep2p/connmgr/internal/timespan"
)

// This file tests how things are written: ages, and texts of strangers.

func TestAgesAreWrittenAsPeopleSayThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 400 * time.Millisecond: "0s", 600 * time.Millisecond: "1s", 42 * time.Second: "42s",
		59*time.Second + 600*time.Millisecond: "1m00s", 3*time.Minute + 5*time.Second: "3m05s",
		time.Hour: "1h00m", 23*time.Hour + 59*time.Minute + 59*time.Second: "23h59m", 24 * time.Hour: "1d00h", 76 * time.Hour: "3d04h",
	} {
		if got := timespan.String(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestATextOfAStrangerKeepsWhatCanBeShown(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "-",
		"port scans":       "port scans",
		`say "no" to C:\`:  `say "no" to C:\`,
		"пир 节点 é":         "пир 节点 é",
		"\x1b[31mred":      `\x1b[31mred`,
		"a\tb\nc\r":        `a\tb\nc\r`,
		"\u009b31m":        `\u009b31m`,
		"\u202egnp.exe":    `\u202egnp.exe`,
		"\xff\xfe":         `\xff\xfe`,
		"\u200bzero\u2028": `\u200bzero\u2028`,
		"\ufffd is itself": "\ufffd is itself",
	} {
		if got := plainText(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func TestLinesThatAreTooLongAreCut(t *testing.T) {
	for text, want := range map[string]string{
		"12345\n":             "12345\n",
		"123456\n":            "1234…\n",
		"ööööö\nöööööö\n\n12": "ööööö\nöööö…\n\n12",
	} {
		for how, pieces := range map[string][]string{"at once": {text}, "rune by rune": strings.Split(text, "")} {
			var out strings.Builder
			w := &cutLines{out: &out, columns: 5}
			for _, piece := range pieces {
				if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
					t.Fatalf("writing %q gives %d, %v", piece, n, err)
				}
			}
			if out.String() != want {
				t.Errorf("%q, %s, in 5 columns is %q, want %q", text, how, out.String(), want)
			}
		}
	}
}

func FuzzPlainTextHasNothingThatATerminalObeys(f *testing.F) {
	f.Add("a", "b")
	f.Add("\x1b]0;x\x07", "\xff\u009b\u202e\U000e0001")
	f.Fuzz(func(t *testing.T, a, b string) {
		if got := plainText(a); !isPlain(got) {
			t.Errorf("%q is shown as %q", a, got)
		}
		raw, err := json.Marshal(map[string]string{"a": a, "b": b})
		if err != nil {
			t.Fatal(err)
		}
		var want, back map[string]string
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		for title, write := range map[string]func(*bytes.Buffer) error{
			"indented": func(out *bytes.Buffer) error { return writeJSON(out, raw) },
			"a line":   func(out *bytes.Buffer) error { return writeJSONLine(out, raw) },
		} {
			var out bytes.Buffer
			if err := write(&out); err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(out.String(), "\n", "")
			if !utf8.ValidString(text) || !isPlain(text) {
				t.Errorf("%s: %s is written as %q", title, raw, out.String())
			}
			if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["a"] != want["a"] || back["b"] != want["b"] {
				t.Errorf("%s: %s is written as %s, which is %q, %v", title, raw, out.String(), back, err)
			}
		}
	})
}
