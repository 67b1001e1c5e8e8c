//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/creack/pty"
)

// This file plays the console blocks of docs/operators.md: lines that begin with "$ ",
// each with what it printed below. "connmgr" is the command itself, on a terminal of 100
// columns; of what else a shell has there are cat, echo, curl, head and grep, as far as
// the page uses them.

var updateDocs = flag.Bool("update", false, "write anew what the examples of docs/operators.md print")

const prompt = "$ "

// usual is the addresses that the page speaks of; the test listens at others.
const (
	usualAPI  = "127.0.0.1:7654"
	nobodyAPI = "127.0.0.1:7655" // where no node answers
)

// normal is what is the same in every run of what a node logs that really runs, without
// its times and ports, how long it took, and the order of its addresses. Nothing else is
// changed.
func normal(log string) string {
	for _, r := range []struct{ pattern, with string }{
		{`time=\S+`, "time=2026-11-22T10:00:00.000Z"},
		{`(/tcp/|/udp/)\d+`, "${1}4001"},
		{`http://127\.0\.0\.1:\d+/`, "http://" + usualAPI + "/"},
		{`took=\S+`, "took=12ms"},
	} {
		log = regexp.MustCompile(r.pattern).ReplaceAllString(log, r.with)
	}
	lines := strings.SplitAfter(log, "\n")
	isAddress := func(line string) bool { return strings.Contains(line, "msg=listening ") }
	if first := slices.IndexFunc(lines, isAddress); first >= 0 {
		last := first
		for last < len(lines) && isAddress(lines[last]) {
			last++
		}
		slices.Sort(lines[first:last])
	}
	return strings.Join(lines, "")
}

func TestDocsShowWhatTheCommandsPrint(t *testing.T) {
	page := docsFile(t, operatorsPage)
	file, err := filepath.Abs(filepath.Join(docsFolder, operatorsPage))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NO_COLOR", "1")
	t.Setenv("TERM", "xterm")
	p := &docsPlay{t: t, api: usualAPI, nobody: freeAddress(t), lasting: make(map[string]string)}
	t.Chdir(p.folder())
	for _, line := range commandLines(page) {
		if strings.HasPrefix(line, "connmgr run") {
			p.lasting[line] = p.runNode(strings.Fields(line)[2:])
		}
	}
	var played string
	synctest.Test(t, func(t *testing.T) {
		p.t = t
		p.begin()
		played = eachCommand(page, p.run)
		p.end()
	})
	if played == page || t.Failed() {
		return
	}
	if *updateDocs {
		if err := os.WriteFile(file, []byte(played), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	is, want := strings.Split(page, "\n"), strings.Split(played, "\n")
	for i := range min(len(is), len(want)) {
		if is[i] != want[i] {
			t.Fatalf("docs/%s:%d:\n\t%s\nbut the command prints\n\t%s\nIf it should, write the examples anew with -update, and read the difference", operatorsPage, i+1, is[i], want[i])
		}
	}
	t.Fatalf("docs/%s has %d lines, want %d; see -update", operatorsPage, len(is), len(want))
}

// eachCommand calls run for each command of each console block, and returns the page with
// what run returns below it in place of what was there.
func eachCommand(page string, run func(line string) string) string {
	var b strings.Builder
	lines := strings.SplitAfter(page, "\n")
	for i := 0; i < len(lines); i++ {
		b.WriteString(lines[i])
		if lines[i] != "```console\n" {
			continue
		}
		for i++; i < len(lines) && lines[i] != "```\n"; i++ {
			line, isCommand := strings.CutPrefix(lines[i], prompt)
			if !isCommand {
				continue // what the command before printed
			}
			b.WriteString(lines[i])
			for strings.HasSuffix(line, "\\\n") && i+1 < len(lines) {
				i++
				b.WriteString(lines[i])
				line = strings.TrimSuffix(line, "\\\n") + strings.TrimSpace(lines[i]) + "\n"
			}
			b.WriteString(run(strings.TrimSuffix(line, "\n")))
		}
		if i < len(lines) {
			b.WriteString(lines[i])
		}
	}
	return b.String()
}

func commandLines(page string) (list []string) {
	eachCommand(page, func(line string) string {
		list = append(list, line)
		return ""
	})
	return list
}

// run executes a line and returns what stands on the terminal then.
func (p *docsPlay) run(line string) string {
	if log, ok := p.lasting[line]; ok {
		return log
	}
	synctest.Wait() // the node has noted what happened
	stages := strings.Split(line, " | ")
	words, err := shellWords(stages[0])
	if err != nil || len(words) == 0 {
		p.t.Fatalf("%s: %v", line, err)
	}
	var text string
	switch filters := stages[1:]; words[0] {
	case "connmgr":
		text = p.connmgr(words[1:], filters)
	case "curl":
		text = p.filtered(p.curl(words), filters)
	case "cat":
		raw, err := os.ReadFile(words[1])
		if err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		text = string(raw)
	case "echo":
		if line != "echo $?" {
			p.t.Fatalf("%s: the test does not know this", line)
		}
		text = strconv.Itoa(p.status) + "\n"
	default:
		p.t.Fatalf("%s: the test does not know this", line)
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return strings.NewReplacer(p.api, usualAPI, p.nobody, nobodyAPI).Replace(text)
}

// connmgr runs the command in this process, so that it has the node's clock, with the API
// on a real port. While that is listened at, the clock stands still.
func (p *docsPlay) connmgr(args, filters []string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.api = l.Addr().String()
	p.t.Setenv(envAPI, p.api)
	server := &http.Server{Handler: p.handler}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		_ = server.Close()
		<-served
	}()
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], nobodyAPI, p.nobody)
	}
	if args[0] == "watch" {
		go p.whenWatched()
	}
	return p.onTerminal(func(screen *os.File) {
		if len(filters) == 0 {
			p.status = run(p.t.Context(), args, screen, screen)
			return
		}
		var out bytes.Buffer
		p.status = run(p.t.Context(), args, &out, screen)
		_, _ = io.WriteString(screen, p.filtered(out.String(), filters))
	})
}

// onTerminal returns what f has written to a terminal.
func (p *docsPlay) onTerminal(f func(*os.File)) string {
	terminal, screen, err := pty.Open()
	if err != nil {
		p.t.Fatal(err)
	}
	defer terminal.Close()
	if err := pty.Setsize(terminal, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
		p.t.Fatal(err)
	}
	written := make(chan string, 1)
	go func() {
		raw, _ := io.ReadAll(terminal) // Linux ends a terminal with an error
		written <- string(raw)
	}()
	f(screen)
	_ = screen.Close()
	return strings.ReplaceAll(<-written, "\r\n", "\n")
}

// curl asks the node for a document, without a network.
func (p *docsPlay) curl(words []string) string {
	if len(words) != 3 || words[1] != "-s" {
		p.t.Fatalf("%q: the test does not know this", words)
	}
	return p.get(strings.TrimPrefix(words[2], "localhost:7654"))
}

func (p *docsPlay) get(path string) string {
	r := httptest.NewRequest("GET", path, nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}))))
	return w.Body.String()
}

// filtered passes a text through "head -n N" and "grep [-v|-E] PATTERN".
func (p *docsPlay) filtered(text string, filters []string) string {
	for _, filter := range filters {
		words, err := shellWords(filter)
		if err != nil || len(words) < 2 {
			p.t.Fatalf("%s: %v", filter, err)
		}
		last := words[len(words)-1]
		switch words[0] {
		case "head":
			n, err := strconv.Atoi(last)
			lines := strings.SplitAfter(text, "\n")
			if err != nil || words[1] != "-n" {
				p.t.Fatalf("%s: the test does not know this", filter)
			}
			text = strings.Join(lines[:min(n, len(lines))], "")
		case "grep":
			pattern, err := regexp.Compile(last)
			if err != nil || strings.ContainsAny(last, "|(") && words[1] != "-E" {
				p.t.Fatalf("%s: %v; groups need -E", filter, err)
			}
			var kept strings.Builder
			for line := range strings.Lines(text) {
				if pattern.MatchString(strings.TrimSuffix(line, "\n")) != (words[1] == "-v") {
					kept.WriteString(line)
				}
			}
			text = kept.String()
		default:
			p.t.Fatalf("%s: the test does not know this", filter)
		}
	}
	return text
}

// shellWords splits a line as a shell does, as far as the page goes.
func shellWords(line string) (words []string, err error) {
	var word strings.Builder
	in, quote := false, rune(0)
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			in, quote = true, c
		case c == ' ':
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		case strings.ContainsRune("|&;<>()*#~`\\{}[]!", c): // a shell would do something about it
			return nil, fmt.Errorf("%q stands outside quotes", c)
		default:
			in = true
			word.WriteRune(c)
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote does not end")
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}

// runNode runs a node as a process of its own until it serves, ends it with SIGTERM, and
// returns what it logged. Its ports are free ones, whatever the configuration says.
func (p *docsPlay) runNode(args []string) string {
	p.t.Setenv("CONNMGR_LISTEN", "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1")
	p.t.Setenv("CONNMGR_API_LISTEN", "127.0.0.1:0")
	n := startRun(p.t, ".")
	n.signalled(syscall.SIGTERM)
	if status := n.ends(); status != 0 {
		p.t.Fatalf("connmgr run %s: exit status %d:\n%s", strings.Join(args, " "), status, n.log.String())
	}
	os.Unsetenv("CONNMGR_LISTEN")
	os.Unsetenv("CONNMGR_API_LISTEN")
	return normal(n.log.String())
}

// freeAddress returns an address at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// whenWatched does something as soon as somebody follows what happens.
func (p *docsPlay) whenWatched() {
	for strings.Contains(p.get("/v1/status"), `"streams":0`) {
		runtime.Gosched()
	}
	p.live()
}
