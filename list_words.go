package connmgr

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// This file has the words that lines of a list are made of: texts and names with and
// without quotes, and times.

// listBlanks stand between words and around lines.
const listBlanks = " \t"

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func beginsComment(text string) bool { return text != "" && (text[0] == '#' || text[0] == ';') }

// cutWord cuts text into its first word and what comes after the blanks behind it.
func cutWord(text string) (word, rest string) {
	for i := range len(text) {
		if isBlank(text[i]) {
			return text[:i], strings.TrimLeft(text[i:], listBlanks)
		}
	}
	return text, ""
}

// cutBare is cutWord for words in which there can be no comment sign.
func cutBare(text string) (word, rest string) {
	for i := range len(text) {
		if isBlank(text[i]) || text[i] == '#' || text[i] == ';' {
			return text[:i], strings.TrimLeft(text[i:], listBlanks)
		}
	}
	return text, ""
}

// cutText returns at most n bytes of a text, and no half of a rune at their end.
func cutText(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for cut := n; cut > n-utf8.UTFMax; cut-- {
		if utf8.RuneStart(text[cut]) {
			return text[:cut]
		}
	}
	return text[:n] // not UTF-8
}

// appendText appends the rest of a line: as it is if that can be read and printed, and
// in quotes otherwise.
func appendText(b []byte, text string) []byte {
	if text == "" || text[0] == '"' || isBlank(text[0]) || isBlank(text[len(text)-1]) || !printable(text) {
		return strconv.AppendQuote(b, text)
	}
	return append(b, text...)
}

// appendName is appendText for a word within a line.
func appendName(b []byte, name string) []byte {
	_, _, want := parseNamedRange(name)
	if want == "" || strings.ContainsAny(name, " #;") {
		return strconv.AppendQuote(b, name)
	}
	return appendText(b, name)
}

func printable(text string) bool {
	for _, c := range text {
		if c == utf8.RuneError || !strconv.IsPrint(c) {
			return false
		}
	}
	return true
}

// unquoteText returns a text that may be in quotes, and whether it is not one that
// only begins with them.
func unquoteText(text string) (string, bool) {
	if !strings.HasPrefix(text, `"`) {
		return text, true
	}
	plain, err := strconv.Unquote(text)
	return plain, err == nil
}

// parseEnd reads what comes after "until".
func parseEnd(word string) (end time.Time, want string) {
	if word == "never" {
		return time.Time{}, ""
	}
	end, err := time.Parse(time.RFC3339, word)
	if err != nil {
		return time.Time{}, wantTime
	}
	end = end.UTC()
	if end.Year() < 1970 || end.Year() > 2261 {
		return time.Time{}, wantYears
	}
	return end, ""
}

// meansUntil reports whether the words after a target are an end without its "until".
func meansUntil(word, rest string) bool {
	next, _ := cutBare(rest)
	for _, text := range []string{word, next} {
		if len(text) >= len("2006-01-02") {
			if _, err := time.Parse(time.DateOnly, text[:len("2006-01-02")]); err == nil {
				return true
			}
		}
	}
	word = strings.ToLower(word)
	return strings.HasPrefix(word, "until") || strings.HasPrefix(word, "til") || strings.HasPrefix(word, "expire")
}
