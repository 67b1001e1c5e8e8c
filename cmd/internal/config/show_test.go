package config

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// This file checks what is written: the sample file, the effective configuration, help.

func newFlagSet() (*pflag.FlagSet, *Flags) {
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	return set, AddFlags(set)
}

// sampleFile is the sample where users look for it.
const sampleFile = "../../../docs/connmgr.example.toml"

func TestTheSampleFileIsWhatTheCommandPrints(t *testing.T) {
	file, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(file) != Example() {
		t.Errorf("docs/connmgr.example.toml is not what 'connmgr config example' prints; write it anew:\n\tgo run ./cmd/connmgr config example > docs/connmgr.example.toml")
	}
}

// commentedOut is a key of the sample that is only to be seen.
var commentedOut = regexp.MustCompile(`(?m)^#([a-z])`)

func TestTheSampleFileChangesNothing(t *testing.T) {
	want := Default()
	got := mustLoad(t, inFile(t, Example()))
	for _, change := range Changes(&want, &got) {
		t.Errorf("the sample sets %s to %s, want its default %s", change.Key, change.New, change.Old)
	}
}

func TestEveryKeyOfTheSampleIsItsDefaultOrAnExample(t *testing.T) {
	want := Default()
	text := commentedOut.ReplaceAllString(Example(), "$1")
	text = strings.ReplaceAll(text, `"/etc/connmgr/token"`, `"token"`)
	in := inFile(t, text)
	if err := os.WriteFile("token", []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := mustLoad(t, in)
	for _, f := range fields {
		if f.secret {
			continue
		}
		if !got.Given(f.key) {
			t.Errorf("the sample does not have %s", f.key)
		}
		if same := f.sameValue(&want, &got); same != (f.sample == "") {
			t.Errorf("the sample has %s of %s; want its default, unless it is said to be an example", f.key, literal(deref(f.ptr(&got))))
		}
	}
}

func TestTheEffectiveConfigurationSaysWhereEachValueIsFrom(t *testing.T) {
	in := inFile(t, "identity = \"a\\\"b\\\\c\\u0001\"\n[watermarks]\nlow = 5\n")
	in.Env = []string{"CONNMGR_WATERMARKS_HIGH=6", "CONNMGR_API_TOKEN=0123456789abcdef"}
	in.Flags = givenFlags(t, "--log-level=debug")
	c := mustLoad(t, in)
	text := c.TOML()
	for _, want := range []string{
		`identity = "a\"b\\c\u0001" +# connmgr.toml:1:12`,
		`low = 5 +# connmgr.toml:3:7`,
		`high = 6 +# environment CONNMGR_WATERMARKS_HIGH`,
		`hard-limit = 9 +# 1.5 × watermarks.high`,
		`grace = "20s" +# default`,
		`max-per-peer = 8 +# preset public`,
		`# token is set, and not shown +# environment CONNMGR_API_TOKEN`,
		`level = "debug" +# flag --log-level`,
	} {
		quoted := strings.ReplaceAll(regexp.QuoteMeta(want), ` \+#`, ` +#`)
		if !regexp.MustCompile(`(?m)^` + quoted + `$`).MatchString(text) {
			t.Errorf("the configuration is shown as\n%s\nwant a line like %q", text, want)
		}
	}
	again := mustLoad(t, inFile(t, text))
	again.API.Token = c.API.Token
	for _, change := range Changes(&c, &again) {
		t.Errorf("read again, %s is %s, want %s", change.Key, change.New, change.Old)
	}
}

func TestNoTwoFieldsShareAName(t *testing.T) {
	seen := map[string]string{}
	for _, f := range fields {
		for _, name := range []string{"key " + f.key, "variable " + f.env(), "flag " + f.flagName()} {
			if other, there := seen[name]; there && name != "flag " {
				t.Errorf("%s is that of %s and of %s", name, other, f.key)
			}
			seen[name] = f.key
		}
		if other := seen["flag "+f.derivedFlag()]; other != "" && other != f.key {
			t.Errorf("--%s would be taken for %s, want %s", f.derivedFlag(), other, f.key)
		}
		if section, _ := f.name(); section != "" && !isSection(section) {
			t.Errorf("%s is in a section that the sample does not have", f.key)
		}
	}
}

func TestFlagsTellOfMistakesAtOnce(t *testing.T) {
	for arg, want := range map[string]string{
		"--low-water=many":            `invalid argument "many" for "--low-water" flag: watermarks.low is "many", want a number of connections, 1 or more`,
		"--watermarks-low=0":          `invalid argument "0" for "--low-water" flag: watermarks.low is "0", want a number of connections, 1 or more`,
		"--grace=20":                  `invalid argument "20" for "--grace" flag: watermarks.grace is "20", want a duration from "0s" to "24h", such as "20s"`,
		"--rules=origin=a":            `invalid argument "origin=a" for "--rules" flag: rules.lists: file is missing, want the name of a file`,
		"--rules=a.netset":            `invalid argument "a.netset" for "--rules" flag: rules.lists is "a.netset", want origin=…, file=…, allow=…, not a.netset`,
		"--api-token=0123456789abcde": `unknown flag: --api-token`,
	} {
		set, _ := newFlagSet()
		if err := set.Parse([]string{arg}); err == nil || err.Error() != want {
			t.Errorf("%s: the error is\n\t%v\nwant\n\t%s", arg, err, want)
		}
	}
}

func TestNearestFindsWhatWasMeant(t *testing.T) {
	names := []string{"watermarks.low", "watermarks.high", "listen"}
	for word, want := range map[string]string{
		"watermarks.hihg": "watermarks.high", "lisen": "listen", "watermark.low": "watermarks.low", "colour": "",
	} {
		if got, _ := nearest(word, names); got != want {
			t.Errorf("nearest to %q is %q, want %q", word, got, want)
		}
	}
}
