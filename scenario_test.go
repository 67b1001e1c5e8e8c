package connmgr_test

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// This file replays the stories under testdata/scenarios against a manager, in a
// bubble where time passes at once. A story is a text of commands, each on a line
// of its own, with what it prints below it, between "----" and an empty line:
//
//	config low=2 high=4        the manager; fields left out have their defaults
//	connect a b n1..n9 out     peers connect; in or out, streams=2, conns=2
//	streams a n=3              a's streams are three from now on
//	disconnect a               all connections of a are gone
//	tag a b dht=5 user=100     and untag a tag=user
//	protect a for=dht          and unprotect
//	wait 20s                   time passes
//	trim                       and force
//	limits low=3 high=9        while running
//	explain a b                what a trim would do with them now
//	connected                  who has a connection
//
// "#" begins a remark. "go test -run TestScenarios -update ." writes anew what
// the commands print.
//
// Trims are printed, those of the background if they closed somebody. The line of
// a trim is followed by the peers it closed, the first to go first; those alike
// in all but their ID share a line, since who is first among them is up to a key
// that differs from one manager to the next.

var updateStories = flag.Bool("update", false, "write anew what the stories in testdata/scenarios print")

func TestScenarios(t *testing.T) {
	files, _ := filepath.Glob("testdata/scenarios/*.txt")
	if len(files) == 0 {
		t.Fatal("there are no stories in testdata/scenarios")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts, err := parseStory(file, string(text))
			if err != nil {
				t.Fatal(err)
			}
			told := replayStory(t, file, parts)
			if again := replayStory(t, file, parts); !slices.Equal(told, again) {
				t.Errorf("%s: the story is another one each time it is told; give its peers something to tell them apart", file)
			}
			if *updateStories {
				if err := os.WriteFile(file, []byte(renderStory(told)), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for i, p := range parts {
				if got := told[i].output; got != p.output {
					t.Errorf("%s:%d: %s\nprints\n%s\nwant\n%s", file, p.line, p.text, got, p.output)
				}
			}
		})
	}
}

func TestScenariosNameTheLineOfAMistake(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"connect a", `:1: "connect" before "config"`},
		{"config low=1 high=2\n\nconfig low=1", `:3: "config" again`},
		{"config low=3 high=2", ":1: connmgr: LowWater 3 is above HighWater 2"},
		{"config low=two", `:1: low="two" is not a number`},
		{"config lows=2", `:1: "config" has no option lows`},
		{"config budget=all grace=never", `:1: grace="never" is not a duration`},
		{"config budget=some", `:1: budget="some" is neither all nor trimmable`},
		{"config now", `:1: "config" has no use for "now"`},
		{"config\n# remark\ntrimm", `:3: there is no command "trimm"`},
		{"config\ntrim now", `:2: "trim" has no use for "now"`},
		{"config\nwait", `:2: "wait" needs a duration, like 20s`},
		{"config\nwait -3s", `:2: "wait" needs a duration, like 20s`},
		{"config\nconnect out", `:2: "connect" needs peers`},
		{"config\nconnect n9..n1", `:2: "n9..n1" is no range, like n1..n9`},
		{"config\nconnect n1..m9", `:2: "n1..m9" is no range, like n1..n9`},
		{"config\nconnect a\ndisconnect a b", `:3: b is not connected`},
		{"config\nstreams a n=1", `:2: a is not connected`},
		{"config\ntag a", `:2: "tag" needs a tag, like dht=5`},
		{"config\ntag a dht=much", `:2: dht="much" is not a number`},
		{"config\nlimits low=500", ":2: connmgr: LowWater 500 is above HighWater 400"},
		{"config\n\n----\nnothing", `:3: "----" without a command before it`},
	} {
		parts, err := parseStory("story.txt", c.text)
		if err == nil {
			synctest.Test(t, func(*testing.T) { _, err = tellStory("story.txt", parts) })
		}
		if want := "story.txt" + c.want; err == nil || err.Error() != want {
			t.Errorf("%q:\nfails with %v\nwant       %s", c.text, err, want)
		}
	}
}

// storyPart is a command with what it prints, or a line that is none.
type storyPart struct {
	line   int
	text   string
	output string
}

func (p storyPart) isCommand() bool { return p.text != "" && p.text[0] != '#' }

func parseStory(file, text string) (parts []storyPart, err error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		p := storyPart{line: i + 1, text: strings.TrimSpace(lines[i])}
		if p.text == "----" {
			return nil, fmt.Errorf("%s:%d: %q without a command before it", file, p.line, p.text)
		}
		if p.isCommand() && i+1 < len(lines) && lines[i+1] == "----" {
			for i += 2; i < len(lines) && lines[i] != ""; i++ {
				p.output += lines[i] + "\n"
			}
			i--
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func renderStory(parts []storyPart) string {
	var b strings.Builder
	for i, p := range parts {
		b.WriteString(p.text + "\n")
		if p.output == "" {
			continue
		}
		b.WriteString("----\n" + p.output)
		if i+1 < len(parts) && parts[i+1].text != "" {
			b.WriteString("\n") // ends what is printed
		}
	}
	return b.String()
}

// replayStory returns the parts with what the commands print now.
func replayStory(t *testing.T, file string, parts []storyPart) (told []storyPart) {
	t.Helper()
	var err error
	synctest.Test(t, func(*testing.T) { told, err = tellStory(file, parts) })
	if err != nil {
		t.Fatal(err)
	}
	return told
}

func tellStory(file string, parts []storyPart) ([]storyPart, error) {
	s := &story{began: time.Now(), peers: make(map[string]*storyPeer)}
	defer s.end()
	told := slices.Clone(parts)
	for i := range told {
		p := &told[i]
		if !p.isCommand() {
			continue
		}
		output, err := s.run(p.text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, p.line, err)
		}
		p.output = output
	}
	return told, nil
}

// storyCommand is a command of which parts are taken until nothing is left.
type storyCommand struct {
	verb    string
	words   []string
	options map[string]string // key=value
}

func parseStoryCommand(text string) *storyCommand {
	text, _, _ = strings.Cut(text, "#")
	fields := strings.Fields(text)
	c := &storyCommand{verb: fields[0], options: make(map[string]string)}
	for _, f := range fields[1:] {
		if key, value, ok := strings.Cut(f, "="); ok {
			c.options[key] = value
		} else {
			c.words = append(c.words, f)
		}
	}
	return c
}

func (c *storyCommand) option(key string) (text string, ok bool) {
	text, ok = c.options[key]
	delete(c.options, key)
	return text, ok
}

// number stores a number, or leaves what is there if the option is not given.
func (c *storyCommand) number(key string, n *int) (err error) {
	if text, ok := c.option(key); ok {
		if *n, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("%s=%q is not a number", key, text)
		}
	}
	return nil
}

// word takes a word and reports whether it was there.
func (c *storyCommand) word(word string) bool {
	before := len(c.words)
	c.words = slices.DeleteFunc(c.words, func(w string) bool { return w == word })
	return len(c.words) < before
}

// peers takes all words as peers.
func (c *storyCommand) peers() (names []string, err error) {
	if len(c.words) == 0 {
		return nil, fmt.Errorf("%q needs peers", c.verb)
	}
	for _, word := range c.words {
		from, to, isRange := strings.Cut(word, "..")
		if !isRange {
			names = append(names, word)
			continue
		}
		prefix, first := splitNumberedName(from)
		samePrefix, last := splitNumberedName(to)
		if prefix != samePrefix || first < 0 || last <= first {
			return nil, fmt.Errorf("%q is no range, like n1..n9", word)
		}
		for n := first; n <= last; n++ {
			names = append(names, prefix+strconv.Itoa(n))
		}
	}
	c.words = nil
	return names, nil
}

func (c *storyCommand) checkAllUsed() error {
	if len(c.words) > 0 {
		return fmt.Errorf("%q has no use for %q", c.verb, c.words[0])
	}
	for _, key := range slices.Sorted(maps.Keys(c.options)) {
		return fmt.Errorf("%q has no option %s", c.verb, key)
	}
	return nil
}

// splitNumberedName splits a name into its text and the number at its end, or -1.
func splitNumberedName(name string) (prefix string, n int) {
	prefix = strings.TrimRight(name, "0123456789")
	n, err := strconv.Atoi(name[len(prefix):])
	if err != nil {
		return name, -1
	}
	return prefix, n
}

// compressNames returns names in order, with three and more in a row as a range.
func compressNames(names []string) string {
	names = slices.SortedFunc(slices.Values(names), func(a, b string) int {
		prefixA, a1 := splitNumberedName(a)
		prefixB, b1 := splitNumberedName(b)
		return cmp.Or(cmp.Compare(prefixA, prefixB), cmp.Compare(a1, b1))
	})
	var parts []string
	for i := 0; i < len(names); {
		prefix, first := splitNumberedName(names[i])
		end := i + 1
		for end < len(names) && first >= 0 && names[end] == prefix+strconv.Itoa(first+end-i) {
			end++
		}
		if end-i >= 3 {
			parts = append(parts, names[i]+".."+names[end-1])
		} else {
			parts = append(parts, names[i:end]...)
		}
		i = end
	}
	return strings.Join(parts, " ")
}
