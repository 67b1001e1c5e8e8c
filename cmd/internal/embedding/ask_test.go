package embedding_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
)

// This file asks the examples' nodes.

// get returns what is at a path of the API that listens at a unix socket.
func get(address, path string) string {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(address, "unix:"))
		},
		DisableKeepAlives: true,
	}}
	answer, err := client.Get("http://localhost" + path)
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(text)
}
