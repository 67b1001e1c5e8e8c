package client

import (
	"strings"
	"testing"
)

// This file tests how the address of an API is read.

func TestAnAddressSaysWhereToAskAndWhatToCallIt(t *testing.T) {
	for _, c := range []struct {
		text, name, base, socket string
		clear                    bool
	}{
		{"", "127.0.0.1:7654", "http://127.0.0.1:7654/", "", false},
		{"127.0.0.1:80", "127.0.0.1:80", "http://127.0.0.1:80/", "", false},
		{"localhost:7654", "localhost:7654", "http://localhost:7654/", "", false},
		{"LOCALHOST:7654", "LOCALHOST:7654", "http://LOCALHOST:7654/", "", false},
		{"[::1]:7654", "[::1]:7654", "http://[::1]:7654/", "", false},
		{"[::ffff:127.0.0.1]:7654", "[::ffff:127.0.0.1]:7654", "http://[::ffff:127.0.0.1]:7654/", "", false},
		{":7654", "127.0.0.1:7654", "http://127.0.0.1:7654/", "", false},
		{"0.0.0.0:7654", "127.0.0.1:7654", "http://127.0.0.1:7654/", "", false},
		{"[::]:7654", "[::1]:7654", "http://[::1]:7654/", "", false},
		{"192.0.2.1:7654", "192.0.2.1:7654", "http://192.0.2.1:7654/", "", true},
		{"node.example:7654", "node.example:7654", "http://node.example:7654/", "", true},
		{"localhost.example:7654", "localhost.example:7654", "http://localhost.example:7654/", "", true},
		{"http://node.example", "node.example", "http://node.example/", "", true},
		{"https://node.example", "https://node.example", "https://node.example/", "", false},
		{"http://127.0.0.1:7654/admin/connmgr/", "127.0.0.1:7654/admin/connmgr", "http://127.0.0.1:7654/admin/connmgr/", "", false},
		{"127.0.0.1:7654/admin", "127.0.0.1:7654/admin", "http://127.0.0.1:7654/admin/", "", false},
		{"unix:/run/connmgr/api.sock", "unix:/run/connmgr/api.sock", "http://localhost/", "/run/connmgr/api.sock", false},
		{"unix:///run/api.sock", "unix:///run/api.sock", "http://localhost/", "/run/api.sock", false},
		{"unix:api.sock", "unix:api.sock", "http://localhost/", "api.sock", false},
	} {
		got, err := parseAddress(c.text)
		if want := (endpoint{c.name, c.base, c.socket, c.clear}); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", c.text, got, err, want)
		}
	}
}

func TestWhatIsNoAddressIsAnErrorThatSaysWhatWouldBe(t *testing.T) {
	for text, want := range map[string]string{
		"localhost":                    "no port",
		"192.0.2.1":                    "no port",
		"::1":                          "cannot be read",
		"unix:":                        "names no socket",
		"unix:a\x00b":                  "names no socket",
		"http://":                      "no host",
		"http:///v1":                   "no host",
		"ftp://127.0.0.1:7654":         `scheme "ftp"`,
		"127.0.0.1:http7":              "cannot be read",
		"127.0.0.1:99999":              "no port",
		"http://me:secret@127.0.0.1:1": "user name",
		"http://127.0.0.1:1/?token=x":  "query",
		"http://127.0.0.1:1/?":         "query",
		"http://127.0.0.1:1/#top":      "fragment",
		"127.0.0.1:1\r\nX: y":          "cannot be read",
	} {
		_, err := parseAddress(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives the error %v, want one that says %q", text, err, want)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error shows the password: %v", text, err)
		}
	}
}
