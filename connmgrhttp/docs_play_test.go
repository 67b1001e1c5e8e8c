package connmgrhttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// This file plays the console blocks of a page: the few shell commands that are in them,
// curl before all, with what jq makes of an answer. No shell, curl or jq is needed, and no
// network.

// block is a fenced block ```console of a page.
type block struct {
	commands []command
}

// command is a line of a shell (or several, joined by backslashes) and where it stands.
type command struct {
	line  string // as it stands, without the prompt
	lines int    // of the page
}

const (
	fenceBegin = "```console"
	fenceEnd   = "```"
	prompt     = "$ "
)

func consoleBlocks(page string) (list []block) {
	_, _ = eachBlock(page, func(c command) (string, error) {
		if c.lines < 0 { // a block begins
			list = append(list, block{})
			return "", nil
		}
		last := &list[len(list)-1]
		last.commands = append(last.commands, c)
		return "", nil
	})
	return list
}

// eachBlock calls run for each command of each block, and returns the page with what run
// returns below it in place of what was there. Before each block it calls run with -1
// lines.
func eachBlock(page string, run func(command) (output string, err error)) (string, error) {
	var b strings.Builder
	lines := strings.SplitAfter(page, "\n")
	for i := 0; i < len(lines); i++ {
		b.WriteString(lines[i])
		if lines[i] != fenceBegin+"\n" {
			continue
		}
		if _, err := run(command{lines: -1}); err != nil {
			return "", err
		}
		for i++; i < len(lines) && lines[i] != fenceEnd+"\n"; i++ {
			line, isCommand := strings.CutPrefix(lines[i], prompt)
			if !isCommand {
				continue // what the command before printed
			}
			c := command{line: strings.TrimSuffix(line, "\n"), lines: 1}
			b.WriteString(lines[i])
			for strings.HasSuffix(c.line, `\`) && i+1 < len(lines) {
				i++
				b.WriteString(lines[i])
				c.line = c.line[:len(c.line)-1] + strings.TrimSuffix(lines[i], "\n")
				c.lines++
			}
			output, err := run(c)
			if err != nil {
				return "", fmt.Errorf("line %d: %s: %w", i+1, c.line, err)
			}
			b.WriteString(output)
		}
		if i == len(lines) {
			return "", errors.New("a block does not end")
		}
		b.WriteString(lines[i])
	}
	return b.String(), nil
}

// page plays a page, and returns it with the answers that came.
func (p *play) page(text string) string {
	played, err := eachBlock(text, func(c command) (string, error) {
		if c.lines < 0 {
			return "", nil
		}
		return p.run(c.line)
	})
	if err != nil {
		p.t.Fatalf("%s: %v", apiPage, err)
	}
	return played
}

// run executes a command and returns what it prints.
func (p *play) run(line string) (string, error) {
	if name, ok := strings.CutPrefix(line, "cat "); ok {
		text, there := storyFiles[name]
		if !there {
			return "", fmt.Errorf("the story has no file %q", name)
		}
		return text, nil
	}
	curl, jq, piped := strings.Cut(line, " | jq ")
	c, err := parseCurl(curl, storyFiles, storyEnv)
	if err != nil {
		return "", err
	}
	answer := p.ask(c)
	if !piped {
		return answer, nil
	}
	return filter(jq, answer)
}

// curl is what a curl command asks for.
type curl struct {
	method string
	url    *url.URL
	header http.Header
	body   string
	after  string        // -w, what is printed behind the answer
	most   time.Duration // --max-time
}

// parseCurl understands the options of curl that the page uses.
func parseCurl(line string, files, env map[string]string) (c curl, err error) {
	words, err := shellWords(line, env)
	if err != nil {
		return c, err
	}
	if len(words) == 0 || words[0] != "curl" {
		return c, fmt.Errorf("%q is no curl command", line)
	}
	c.header = make(http.Header)
	next := func(i *int) string {
		if *i++; *i < len(words) {
			return words[*i]
		}
		err = fmt.Errorf("%s has no value", words[len(words)-1])
		return ""
	}
	for i := 1; i < len(words) && err == nil; i++ {
		switch word := words[i]; word {
		case "-s", "-N", "-sN":
		case "-w":
			c.after = next(&i)
		case "-X":
			c.method = next(&i)
		case "-H":
			name, value, _ := strings.Cut(next(&i), ": ")
			c.header.Add(name, value)
		case "--json":
			c.body = next(&i)
			c.header.Set("Content-Type", "application/json")
			c.header.Set("Accept", "application/json")
		case "--data-binary":
			c.body = next(&i)
			if name, ok := strings.CutPrefix(c.body, "@"); ok {
				if c.body, ok = files[name]; !ok {
					return c, fmt.Errorf("the story has no file %q", name)
				}
			}
			if c.header.Get("Content-Type") == "" {
				c.header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
		case "--max-time":
			n, _ := strconv.Atoi(next(&i))
			c.most = time.Duration(n) * time.Second
		default:
			if strings.HasPrefix(word, "-") || c.url != nil {
				return c, fmt.Errorf("%s: the test does not know this", word)
			}
			if !strings.Contains(word, "://") {
				word = "http://" + word
			}
			c.url, err = url.Parse(word)
		}
	}
	switch {
	case err != nil:
		return c, err
	case c.url == nil:
		return c, errors.New("there is no URL")
	case c.method == "" && c.body != "":
		c.method = "POST"
	case c.method == "":
		c.method = "GET"
	}
	return c, nil
}

// request returns the request as a server gets it.
func (c *curl) request() *http.Request {
	r := httptest.NewRequest(c.method, c.url.RequestURI(), strings.NewReader(c.body))
	if c.body == "" {
		r = httptest.NewRequest(c.method, c.url.RequestURI(), nil)
	}
	r.Host = c.url.Host
	for name, values := range c.header {
		r.Header[name] = values
		if name == "Host" {
			r.Host = values[0]
		}
	}
	return r
}

// ask sends a request to the node that the URL names, and returns what curl would print.
func (p *play) ask(c curl) string {
	r := c.request()
	synctest.Wait() // the journal has what happened
	if c.most > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), c.most)
		defer cancel()
		r = r.WithContext(ctx)
		go p.meanwhile()
	}
	w := p.at(c.url.Host, r).serve(r)
	after := strings.NewReplacer("%{http_code}", strconv.Itoa(w.Code), `\n`, "\n").Replace(c.after)
	return w.Body.String() + after
}

// shellWords splits a line as a shell does, as far as the page goes: quotes, and variables.
func shellWords(line string, env map[string]string) (words []string, err error) {
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
		case strings.ContainsRune("|&;<>()*?#~`\\{}[]!", c): // a shell would do something about it
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
	for i := range words {
		words[i] = os.Expand(words[i], func(name string) string { return env[name] })
	}
	return words, nil
}

// filter is jq, as far as the page goes: "." or a path such as '.peers[0].why[]', and -r.
func filter(args, document string) (string, error) {
	words, err := shellWords(args, nil)
	if err != nil {
		return "", err
	}
	raw := len(words) == 2 && words[0] == "-r"
	if raw {
		words = words[1:]
	}
	if len(words) != 1 || words[0] == "" || words[0][0] != '.' {
		return "", fmt.Errorf("jq %s: the test does not know this", args)
	}
	found := []json.RawMessage{json.RawMessage(document)}
	steps := strings.FieldsFunc(strings.ReplaceAll(words[0], "[", ".["), func(c rune) bool { return c == '.' })
	for _, step := range steps {
		if found, err = into(found, step); err != nil {
			return "", fmt.Errorf("jq %s: %w", args, err)
		}
	}
	var b bytes.Buffer
	for _, doc := range found {
		var text string
		if raw && json.Unmarshal(doc, &text) == nil {
			b.WriteString(text + "\n")
			continue
		}
		if err := json.Indent(&b, bytes.TrimSpace(doc), "", "  "); err != nil {
			return "", err
		}
		b.WriteByte('\n')
	}
	plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&") // as jq has them
	return plain.Replace(b.String()), nil
}

// into takes a step of a path: a member, "[n]" or "[]".
func into(docs []json.RawMessage, step string) (found []json.RawMessage, err error) {
	for _, doc := range docs {
		index, isIndex := strings.CutPrefix(step, "[")
		if !isIndex {
			var object map[string]json.RawMessage
			if err := json.Unmarshal(doc, &object); err != nil {
				return nil, err
			}
			value, there := object[step]
			if !there {
				return nil, fmt.Errorf("there is no member %q", step)
			}
			found = append(found, value)
			continue
		}
		var list []json.RawMessage
		if err := json.Unmarshal(doc, &list); err != nil {
			return nil, err
		}
		index = strings.TrimSuffix(index, "]")
		if index == "" {
			found = append(found, list...)
			continue
		}
		n, err := strconv.Atoi(index)
		if err != nil {
			return nil, err
		}
		if n < 0 {
			n += len(list)
		}
		if n < 0 || n >= len(list) {
			return nil, fmt.Errorf("there is no element %s", index)
		}
		found = append(found, list[n])
	}
	return found, nil
}

func TestDocsAreReadAsAShellWould(t *testing.T) {
	words, err := shellWords(`curl -H "A: $X" 'a b' c\d`, nil)
	if err == nil {
		t.Errorf("a backslash is taken for a letter: %q", words)
	}
	words, err = shellWords(`curl -H "A: $X"  'a b'`, map[string]string{"X": "y"})
	if err != nil || len(words) != 4 || words[2] != "A: y" || words[3] != "a b" {
		t.Errorf("the words are %q, %v; want four", words, err)
	}
	for args, want := range map[string]string{
		".":            "{\n  \"a\": [\n    {\n      \"b\": \"<x>\"\n    },\n    {\n      \"b\": 7\n    }\n  ]\n}\n",
		"-r '.a[].b'":  "<x>\n7\n",
		"'.a[-1].b'":   "7\n",
		"'.a[0] | .b'": "",
		".c":           "",
	} {
		got, err := filter(args, `{"a":[{"b":"\u003cx\u003e"},{"b":7}]}`)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("jq %s prints %q, %v; want %q", args, got, err, want)
		}
	}
}
