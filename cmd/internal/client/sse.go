package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// This file reads a stream of server-sent events, as the HTML standard has it (section
// 9.2.6), with bounds: who writes the stream is not trusted.

// maxEvent bounds an event, and each of its lines, in bytes. The largest that the API
// writes is a trim of a thousand peers, a tenth of it.
const maxEvent = 4 << 20

var errEventTooLarge = errors.New("it sent an event larger than any of the API's")

// message is one server-sent event.
type message struct {
	// id is the last ID that the stream has set, by this message or an earlier one.
	id   string
	kind string // "message" if the stream does not say it
	data []byte // lines are joined by line feeds
}

// messageReader cuts a stream into messages.
type messageReader struct {
	r       *bufio.Reader
	line    []byte
	begun   bool // the first line is behind us
	afterCR bool // an LF that comes next belongs to the line before
	id      string
}

func newMessageReader(r io.Reader) *messageReader {
	return &messageReader{r: bufio.NewReader(r)}
}

// next returns the next message. At the end of the stream it is io.EOF; a message
// without the empty line behind it has not come. The data is valid until the next call.
func (m *messageReader) next() (message, error) {
	var (
		kind string
		data []byte
		some bool // there is data, be it empty
		id   = m.id
	)
	for {
		line, err := m.readLine()
		if err != nil {
			return message{}, err
		}
		if len(line) == 0 {
			m.id = id
			if !some {
				kind = ""
				continue
			}
			if kind == "" {
				kind = "message"
			}
			return message{id: id, kind: kind, data: data}, nil
		}
		field, value, _ := bytes.Cut(line, []byte(":")) // a comment has no name
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			kind = string(value)
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				id = string(value)
			}
		case "data":
			if len(data)+len(value) >= maxEvent {
				return message{}, errEventTooLarge
			}
			if some {
				data = append(data, '\n')
			}
			data, some = append(data, value...), true
		}
	}
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// readLine returns a line without its end, which is LF, CR LF or CR. What follows a CR
// is not waited for: it may be long in coming.
func (m *messageReader) readLine() ([]byte, error) {
	m.line = m.line[:0]
	for {
		c, err := m.r.ReadByte()
		if err != nil {
			return nil, err // what was begun is dropped
		}
		if m.afterCR {
			m.afterCR = false
			if c == '\n' {
				continue
			}
		}
		switch c {
		case '\r', '\n':
			m.afterCR = c == '\r'
			if !m.begun {
				m.begun, m.line = true, bytes.TrimPrefix(m.line, byteOrderMark)
			}
			return m.line, nil
		}
		if len(m.line) == maxEvent {
			return nil, errEventTooLarge
		}
		m.line = append(m.line, c)
	}
}
