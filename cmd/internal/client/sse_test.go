package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// This file tests the reader of server-sent events against examples of the standard, and
// against a second reader that has the whole text before it.

// readAll returns the messages of a stream, each in a line.
func readAll(r io.Reader) (list []string, err error) {
	for m := newMessageReader(r); ; {
		got, err := m.next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, fmt.Sprintf("%s|%s|%s", got.id, got.kind, got.data))
	}
}

func TestAStreamIsCutIntoMessages(t *testing.T) {
	for _, c := range []struct {
		title, stream string
		want          []string
	}{
		{"nothing", "", nil},
		{"an event as the API writes it", "id: 7\nevent: trim\ndata: {\"id\":7}\n\n", []string{`7|trim|{"id":7}`}},
		{"lines of data are joined", "data: YHOO\ndata: +2\ndata: 10\n\n", []string{"|message|YHOO\n+2\n10"}},
		{"one blank behind the colon is not part of it", "data:a\n\ndata: a\n\ndata:  a\n\n", []string{"|message|a", "|message|a", "|message| a"}},
		{"comments are passed over", ": \n\n:hello\ndata: a\n: b\n\n", []string{"|message|a"}},
		{"a field without a colon is empty", "data\n\ndata\ndata\n\n", []string{"|message|", "|message|\n"}},
		{"what is not known is passed over", "retry: 2000\nfoo: bar\ndata: a\n\n", []string{"|message|a"}},
		{"the ID stays until another one comes", "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", []string{"1|message|a", "1|message|b", "|message|c"}},
		{"an ID alone counts for the next", "id: 1\n\ndata: a\n\n", []string{"1|message|a"}},
		{"an ID with a NUL is none", "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", []string{"1|message|a", "1|message|b"}},
		{"an event without data is none", "event: a\n\ndata: b\n\n", []string{"|message|b"}},
		{"what has no empty line behind it has not come", "data: a\n\ndata: b\n", []string{"|message|a"}},
		{"lines end with LF, CR LF or CR", "data: a\r\n\r\ndata: b\r\rdata: c\n\ndata: d\r\n\n", []string{"|message|a", "|message|b", "|message|c", "|message|d"}},
		{"a byte order mark comes before", "\xef\xbb\xbfdata: a\n\n", []string{"|message|a"}},
		{"a second one is part of a name", "\n\xef\xbb\xbfdata: a\n\n", nil},
	} {
		for how, r := range map[string]io.Reader{
			"at once": strings.NewReader(c.stream), "byte by byte": iotest.OneByteReader(strings.NewReader(c.stream)),
		} {
			got, err := readAll(r)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s, %s: got %q, %v; want %q", c.title, how, got, err, c.want)
			}
		}
	}
}

func TestAMessageIsThereAsSoonAsItsLastByteIs(t *testing.T) {
	for _, end := range []string{"\n", "\r", "\r\n"} {
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, "data: a"+end+end) }() // and then nothing
		m, err := newMessageReader(r).next()
		if err != nil || string(m.data) != "a" {
			t.Errorf("with lines that end in %q: got %q, %v; want the message, without waiting for more", end, m.data, err)
		}
		w.Close()
	}
}

func TestAnEventWithoutEndIsNotKept(t *testing.T) {
	for title, stream := range map[string]io.Reader{
		"one line":   io.MultiReader(strings.NewReader("data: "), endless("x")),
		"many lines": endless("data: " + strings.Repeat("x", 1000) + "\n"),
		"no data":    io.MultiReader(strings.NewReader("event: "), endless("x")),
		"a comment":  io.MultiReader(strings.NewReader(":"), endless("x")),
	} {
		read := &counter{r: stream}
		_, err := readAll(read)
		if !errors.Is(err, errEventTooLarge) {
			t.Errorf("%s: got %v, want that the event is too large", title, err)
		}
		if read.n > 2*maxEvent {
			t.Errorf("%s: %d bytes were read, want about %d", title, read.n, maxEvent)
		}
	}
}

// endless is a text again and again.
func endless(text string) io.Reader { return &repeat{text: []byte(strings.Repeat(text, 64))} }

type repeat struct {
	text []byte
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// readWhole is the reader once more, slow and literal, as section 9.2.6 of the standard
// tells it.
func readWhole(text string) (list []string) {
	text = strings.TrimPrefix(text, "\xef\xbb\xbf")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	var id, last, kind, data string
	for _, line := range lines[:len(lines)-1] { // the last one has no end
		if line == "" {
			last = id
			if data != "" {
				list = append(list, fmt.Sprintf("%s|%s|%s", last, kind, strings.TrimSuffix(data, "\n")))
			}
			kind, data = "", ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			kind = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		}
	}
	for i, m := range list { // the standard's name of events without one
		if id, rest, _ := strings.Cut(m, "|"); strings.HasPrefix(rest, "|") {
			list[i] = id + "|message" + rest
		}
	}
	return list
}

func FuzzMessageReader(f *testing.F) {
	for _, seed := range []string{
		"", "data: a\n\n", "id: 1\nevent: trim\ndata: {}\n\n", ": \n\ndata\r\rdata:\r\n\r\n", "\xef\xbb\xbfid\x00: 2\ndata:  x\ndata\n\n",
		"event: a|b\ndata: c\n\nid: |\ndata: d\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		if bytes.ContainsRune(stream, '|') {
			t.Skip("it is what this test joins by")
		}
		want := readWhole(string(stream))
		for how, r := range map[string]io.Reader{
			"at once": bytes.NewReader(stream), "byte by byte": iotest.OneByteReader(bytes.NewReader(stream)),
		} {
			got, err := readAll(r)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s: got %q, %v; want %q", how, got, err, want)
			}
		}
	})
}
