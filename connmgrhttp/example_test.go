package connmgrhttp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This file is the examples of the package's documentation. docs/embedding.md has them as
// well, and a test in the module of the command holds the two together.

// A handler for a manager, and a question that any HTTP client can ask.
func ExampleHandler() {
	m, err := connmgr.New(connmgr.Config{LowWater: 100, HighWater: 400})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	admin, err := connmgrhttp.Handler(m, m.Gater(), connmgrhttp.Config{})
	if err != nil {
		log.Fatal(err)
	}

	server := httptest.NewServer(admin) // a program has connmgrhttp.Listen and Serve
	defer server.Close()
	m.Connected("alice", connmgrtest.NewConn("alice")) // and its host does this
	m.TagPeer("alice", "useful", 10)

	answer, err := http.Get(server.URL + "/v1/peers")
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	var list api.PeerList
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
		log.Fatal(err)
	}
	for _, p := range list.Peers {
		fmt.Println(p.Peer, p.Score, p.Verdict.Reason)
	}
	// Output: alice 10 in grace
}

// A handler below a path of a server that a program has already.
func ExampleHandler_belowAPath() {
	m, err := connmgr.New(connmgr.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	admin, err := connmgrhttp.Handler(m, nil, connmgrhttp.Config{})
	if err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.Handle("/admin/connmgr/", http.StripPrefix("/admin/connmgr", admin))

	server := httptest.NewServer(mux)
	defer server.Close()
	for _, path := range []string{"/admin/connmgr/", "/admin/connmgr/v1/status", "/v1/status"} {
		answer, err := http.Get(server.URL + path)
		if err != nil {
			log.Fatal(err)
		}
		answer.Body.Close()
		fmt.Println(path, answer.StatusCode)
	}
	// Output:
	// /admin/connmgr/ 200
	// /admin/connmgr/v1/status 200
	// /v1/status 404
}

// Listening where it is safe to, and serving until the program ends.
func ExampleServe() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	address := "unix:" + filepath.Join(dir, "api.sock")

	m, err := connmgr.New(connmgr.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	admin, err := connmgrhttp.Handler(m, nil, connmgrhttp.Config{})
	if err != nil {
		log.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	l, err := connmgrhttp.Listen(address, "")
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- connmgrhttp.Serve(ctx, l, admin) }()
	// … the program runs …
	stop() // ends streams and waits for requests, 5 seconds at most
	if err := <-ended; err != nil {
		log.Print(err)
	}

	_, err = os.Stat(strings.TrimPrefix(address, "unix:"))
	fmt.Println("the socket is gone:", os.IsNotExist(err))
	// Output: the socket is gone: true
}

// An address that others reach needs a token.
func ExampleListen() {
	for _, token := range []string{"", "too short"} {
		_, err := connmgrhttp.Listen("192.0.2.1:7654", token)
		fmt.Println(err)
	}
	// Output:
	// connmgr: cannot listen at "192.0.2.1:7654": it is reached by others, and there is no token; set one of at least 16 bytes, or listen at 127.0.0.1 or at a unix socket
	// connmgr: cannot listen at "192.0.2.1:7654": it is reached by others, and the token has 9 bytes; set one of at least 16, or listen at 127.0.0.1 or at a unix socket
}

// With a token, requests carry it in a header.
func ExampleConfig_token() {
	const token = "c29tZXRoaW5nIHNlY3JldA" // from a file, in a program
	m, err := connmgr.New(connmgr.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	admin, err := connmgrhttp.Handler(m, nil, connmgrhttp.Config{
		Token: token,
		Hosts: []string{"node.example.org"}, // names by which it is asked for
	})
	if err != nil {
		log.Fatal(err)
	}

	server := httptest.NewServer(admin)
	defer server.Close()
	ask := func(token string) int {
		r, err := http.NewRequest("GET", server.URL+"/v1/status", nil)
		if err != nil {
			log.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	fmt.Println("with a token:", ask(token))
	fmt.Println("without:     ", ask(""))
	// Output:
	// with a token: 200
	// without:      401
}

// Peers go by the names that a program gives them, in documents, paths and rules.
func ExampleConfig_names() {
	m, err := connmgr.New(connmgr.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	admin, err := connmgrhttp.Handler(m, nil, connmgrhttp.Config{
		Names: connmgr.ListFormat{
			FormatPeer: func(id connmgr.NodeID) string { return fmt.Sprintf("node-%x", string(id)) },
			ParsePeer: func(name string) (id connmgr.NodeID, err error) {
				var raw []byte
				_, err = fmt.Sscanf(name, "node-%x", &raw)
				return connmgr.NodeID(raw), err
			},
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	server := httptest.NewServer(admin)
	defer server.Close()
	r, err := http.NewRequest("PUT", server.URL+"/v1/peers/node-0a0b/protections/friend", nil)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		log.Fatal(err)
	}
	answer.Body.Close()
	fmt.Println(answer.StatusCode, m.IsProtected("\x0a\x0b", "friend"))
	// Output: 200 true
}
