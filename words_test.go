package connmgr

import (
	"encoding"
	"fmt"
	"regexp"
	"testing"
)

var snakeCase = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

// A constant that is new has a text, and must have a word as well.
func TestEveryConstantHasAWordOfItsOwn(t *testing.T) {
	wordsAreComplete[Reason](t, 14)
	wordsAreComplete[Trigger](t, 10)
	wordsAreComplete[Direction](t, 3)
	wordsAreComplete[Checkpoint](t, 5)
	wordsAreComplete[Outcome](t, 9)
	wordsAreComplete[Effect](t, 2)
	wordsAreComplete[Budget](t, 2)

	for c := Cause(1); c != 0; c <<= 1 {
		known := c.String() != fmt.Sprintf("Cause(%d)", uint8(c))
		if words := c.Words(); known != (len(words) == 1 && snakeCase.MatchString(words[0])) {
			t.Errorf("cause %v has the words %q, want one in snake_case if it exists", c, words)
		}
	}
	if words := (CauseGrace | CauseProtected).Words(); fmt.Sprint(words) != "[protected grace]" {
		t.Errorf("the words of two causes are %q, want both", words)
	}
}

// wordsAreComplete holds that the constants of a type have words, texts and no others
// have. least is how many there were once.
func wordsAreComplete[T interface {
	~uint8
	fmt.Stringer
	encoding.TextMarshaler
}, P interface {
	*T
	encoding.TextUnmarshaler
}](t *testing.T, least int) {
	t.Helper()
	n, owner, texts := 0, map[string]T{}, map[string]bool{}
	for i := range 256 {
		v := T(i)
		word, err := v.MarshalText()
		text := v.String()
		if text == fmt.Sprintf("%s(%d)", typeName(v), i) || texts[text] { // that of another one
			if err == nil {
				t.Errorf("%v does not exist but has the word %q", v, word)
			}
			continue
		}
		texts[text] = true
		n++
		if err != nil || !snakeCase.Match(word) {
			t.Errorf("%T %v has the word %q and the error %v, want one in snake_case", v, v, word, err)
			continue
		}
		if other, taken := owner[string(word)]; taken {
			t.Errorf("%T %v and %v have the same word %q", v, other, v, word)
		}
		owner[string(word)] = v
		var back T
		if err := P(&back).UnmarshalText(word); err != nil || back != v {
			t.Errorf("%T: the word %q is read as %v (%v), want %v", v, word, back, err, v)
		}
	}
	if n < least {
		t.Errorf("%T: %d constants were found, want at least %d", T(0), n, least)
	}
	var v T
	if err := P(&v).UnmarshalText([]byte("nonsense")); err == nil {
		t.Errorf("%T: nonsense is read as %v, want an error", v, v)
	}
}

func typeName(v any) string { return regexp.MustCompile(`\w+$`).FindString(fmt.Sprintf("%T", v)) }
