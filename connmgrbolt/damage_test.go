package connmgrbolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrbolt"
)

// This file damages files. Whatever has happened to one, it is an error, or the rules
// are all there: never a panic, never fewer or other rules.

// damageModel returns a file with long records, free pages and rules of
// every kind, the rules, and the file as it was some transactions ago.
func damageModel(t testing.TB) (file []byte, rules []connmgr.Rule, older []byte) {
	t.Helper()
	path := newPath(t)
	s := mustOpen(t, path)
	rules = everyKind()
	rng := rand.New(rand.NewPCG(7, 7))
	model := setOf(rules...)
	for len(model) < 120 {
		r := randomRule(rng)
		model[nameOf(r)] = r
	}
	rules = rules[:0]
	for _, r := range model {
		rules = append(rules, r)
	}
	slices.SortFunc(rules, func(a, b connmgr.Rule) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
	mustSave(t, s, puts(rules...))
	older = mustRead(t, path)
	for range 3 {
		mustSave(t, s, removes(rules[:20]...))
		rules = rules[20:]
		r := randomRule(rng)
		mustSave(t, s, puts(r))
		rules = append(rules, r)
	}
	mustClose(t, s)
	return mustRead(t, path), rules, older
}

// refusals is the errors that a damaged file may give.
var refusals = []error{connmgrbolt.ErrCorrupt, connmgrbolt.ErrForeign, connmgrbolt.ErrNewerFormat}

// survives fails the test unless a file gives an error or has all the rules. It
// reports whether it has.
func survives(t testing.TB, what, path string, want ruleSet) bool {
	t.Helper()
	s, err := connmgrbolt.Open(path, connmgrbolt.ReadOnly())
	if err == nil {
		var rules []connmgr.Rule
		rules, err = s.Load(context.Background())
		mustClose(t, s)
		if err == nil {
			if d := setOf(rules...).difference(want); d != "" || len(rules) != len(want) {
				t.Errorf("%s: no error, but\n%s", what, d)
			}
			return true
		}
	}
	wantError(t, err, path)
	if !slices.ContainsFunc(refusals, func(r error) bool { return errors.Is(err, r) }) {
		t.Errorf("%s: %v, want an error that says that the file is damaged", what, err)
	}
	return false
}

// serves fails the test unless a file gives an error or can be used as if nothing had
// happened to it: a damage that nobody has noticed must not do harm later.
func serves(t testing.TB, what, path string, rules []connmgr.Rule) {
	t.Helper()
	want := setOf(rules...)
	if !survives(t, what, path, want) {
		before := mustRead(t, path)
		if s, err := connmgrbolt.Open(path); err == nil {
			_, err := s.Load(context.Background())
			mustClose(t, s)
			if err == nil {
				t.Errorf("%s: an error with ReadOnly, and none without", what)
			}
		}
		if !bytes.Equal(before, mustRead(t, path)) {
			t.Errorf("%s: the file was refused, but changed", what)
		}
		return
	}
	for i := range 2 {
		s, err := connmgrbolt.Open(path)
		if err != nil {
			t.Errorf("%s: no error with ReadOnly, but without: %v", what, err)
			return
		}
		r := peerRule(1_000_000 + i)
		want[nameOf(r)] = r
		mustSave(t, s, puts(r))
		mustClose(t, s)
		if !survives(t, what+", then used", path, want) {
			t.Errorf("%s: the file was good for reading, but is broken after it was used", what)
			return
		}
	}
}

// patient is a file that is damaged and healed again, in place.
type patient struct {
	t     testing.TB
	path  string
	sound []byte
}

func newPatient(t testing.TB, file []byte, rules []connmgr.Rule) *patient {
	t.Helper()
	p := &patient{t: t, path: newPath(t), sound: file}
	mustWrite(t, p.path, file)
	wantInFile(t, p.path, rules...)
	return p
}

// write writes to a place in the file.
func (p *patient) write(b []byte, at int) {
	p.t.Helper()
	f, err := os.OpenFile(p.path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(b, int64(at))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// flip changes bits of a byte, calls do, and heals the file.
func (p *patient) flip(at int, bits byte, do func(what string)) {
	p.t.Helper()
	p.write([]byte{p.sound[at] ^ bits}, at)
	do(fmt.Sprintf("byte %d changed by %#x", at, bits))
	p.write(p.sound[at:at+1], at)
}

// renew makes a new file with some content: bbolt has been at the other.
func (p *patient) renew(file []byte) {
	p.t.Helper()
	if err := os.Remove(p.path); err != nil {
		p.t.Fatal(err)
	}
	mustWrite(p.t, p.path, file)
}

func TestAChangedByteIsAnErrorOrMeansNothing(t *testing.T) {
	t.Parallel()
	file, rules, _ := damageModel(t)
	p, want := newPatient(t, file, rules), setOf(rules...)
	pageSize, rng := os.Getpagesize(), rand.New(rand.NewPCG(1, 1))
	noticed, tried := 0, 0
	try := func(at int, bits byte) {
		tried++
		p.flip(at, bits, func(what string) {
			if !survives(t, what, p.path, want) {
				noticed++
			}
		})
	}
	// The first bytes of a page say what it is, and everything depends on them; of the
	// rest a sample will do.
	for page := 0; page < len(file); page += pageSize {
		head, every := 16, 1
		if page < 2*pageSize {
			head = 80
		} else if binary.NativeEndian.Uint64(file[page:]) != uint64(page/pageSize) {
			every = 8 // it belongs to the one before
		}
		for at := rng.IntN(every); at < head; at += every {
			try(page+at, 1<<rng.IntN(8))
		}
		for range 8 / every {
			try(page+head+rng.IntN(200), 1<<rng.IntN(8))
			try(page+rng.IntN(pageSize), byte(1+rng.IntN(255)))
		}
	}
	if noticed < tried/10 {
		t.Errorf("of %d changes only %d were noticed: the test does not reach what matters", tried, noticed)
	}
	wantInFile(t, p.path, rules...)
}

func TestAFileThatIsCutShortIsAnErrorOrComplete(t *testing.T) {
	t.Parallel()
	file, rules, _ := damageModel(t)
	p, want := newPatient(t, file, rules), setOf(rules...)
	for size := len(file); size > 0; size -= 1024 {
		for _, size := range []int{size, size - 1, size - 500} {
			if err := os.Truncate(p.path, int64(size)); err != nil {
				t.Fatal(err)
			}
			whole := survives(t, fmt.Sprintf("%d of %d bytes", size, len(file)), p.path, want)
			if whole && size < len(file)/2 {
				t.Errorf("half of the file is not needed: the test does not reach what matters")
			}
		}
	}
}

func TestPagesInTheWrongPlaceAreAnErrorOrMeanNothing(t *testing.T) {
	t.Parallel()
	file, rules, older := damageModel(t)
	p, pageSize := newPatient(t, file, rules), os.Getpagesize()
	rng := rand.New(rand.NewPCG(2, 2))
	pages := min(len(file), len(older)) / pageSize
	for i := range pages {
		is, was := file[i*pageSize:][:pageSize], older[i*pageSize:][:pageSize]
		j := rng.IntN(pages)
		other := file[j*pageSize:][:pageSize]
		withID := append(bytes.Clone(is[:8]), other[8:]...)
		for what, pageIs := range map[string][]byte{
			"zeroed":                  make([]byte, pageSize),
			"as it was":               was,
			"half as it was":          append(bytes.Clone(was[:pageSize/2]), is[pageSize/2:]...),
			"as another":              other,
			"as another, with its ID": withID,
		} {
			if bytes.Equal(is, pageIs) {
				continue
			}
			what = fmt.Sprintf("page %d %s (%d)", i, what, j)
			p.write(pageIs, i*pageSize)
			if i%8 == 0 {
				serves(t, what, p.path, rules)
				p.renew(file)
			} else {
				survives(t, what, p.path, setOf(rules...))
				p.write(is, i*pageSize)
			}
		}
	}
}

func TestADamagedListOfFreePagesDoesNoHarmLater(t *testing.T) {
	t.Parallel()
	file, rules, _ := damageModel(t)
	p, pageSize := newPatient(t, file, rules), os.Getpagesize()
	rng := rand.New(rand.NewPCG(3, 3))
	lists := 0
	for at := 2 * pageSize; at < len(file); at += pageSize {
		if binary.NativeEndian.Uint16(file[at+8:]) != 0x10 {
			continue
		}
		lists++
		for range 20 {
			p.flip(at+8+rng.IntN(8+80), 1<<rng.IntN(8), func(what string) {
				serves(t, what, p.path, rules)
				p.renew(file)
			})
		}
	}
	if lists == 0 {
		t.Error("the file has no list of free pages")
	}
}

// The system tells a process that reads memory that is no longer in the file with a
// signal that ends it.
func TestAFileThatIsCutShortWhileItIsOpenIsAnError(t *testing.T) {
	file, rules, _ := damageModel(t)
	for _, size := range []int64{0, 1000, 8192, 20_000} {
		for _, first := range []string{"Load", "Save"} {
			t.Run(fmt.Sprint(first, " of ", size), func(t *testing.T) {
				path := newPath(t)
				mustWrite(t, path, file)
				s := mustOpen(t, path)
				wantRules(t, s, rules...)
				if err := os.Truncate(path, size); err != nil {
					t.Fatal(err)
				}
				if first == "Save" {
					// It may need nothing of what is lost, but Load does.
					if err := s.Save(context.Background(), puts(peerRule(1))); err != nil {
						wantError(t, err, path, connmgrbolt.ErrCorrupt)
					}
				}
				for range 2 {
					_, err := s.Load(context.Background())
					wantError(t, err, path, connmgrbolt.ErrCorrupt)
				}
				mustClose(t, s)
				if _, err := connmgrbolt.Open(path); errors.Is(err, connmgrbolt.ErrLocked) {
					t.Errorf("after Close the file is still locked: %v", err)
				}
			})
		}
	}
}

// patch changes a file as data says: records of 4 bytes of place and 1 of change. The
// checksums of the meta pages are set right if asked, so that they can be hostile too.
func patch(file, data []byte, reseal bool) []byte {
	b := bytes.Clone(file)
	for ; len(data) >= 5; data = data[5:] {
		b[int(binary.BigEndian.Uint32(data))%len(b)] ^= data[4]
	}
	if reseal {
		for _, at := range []int{0, os.Getpagesize()} {
			h := fnv.New64a()
			h.Write(b[at+16:][:56])
			binary.NativeEndian.PutUint64(b[at+72:], h.Sum64())
		}
	}
	return b
}

func FuzzOpenOfADamagedFile(f *testing.F) {
	file, rules, _ := damageModel(f)
	path, want := newPath(f), setOf(rules...)
	change := func(at int, flip byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(at)), flip)
	}
	f.Add([]byte{}, false)
	f.Add(change(16, 1), false)
	f.Add(change(24, 0xff), true)                   // page size
	f.Add(change(34, 0xff), true)                   // root
	f.Add(change(os.Getpagesize()+50, 0xff), true)  // freelist
	f.Add(change(os.Getpagesize()+60, 0xff), true)  // end
	f.Add(change(2*os.Getpagesize()+8, 0x13), true) // flags
	f.Fuzz(func(t *testing.T, data []byte, reseal bool) {
		mustWrite(t, path, patch(file, data, reseal))
		if !reseal {
			survives(t, "patched", path, want)
			return
		}
		// Who can write checksums can also write another file. It must not take us down.
		s, err := connmgrbolt.Open(path, connmgrbolt.WithLockTimeout(0))
		if err == nil {
			_, _ = s.Load(context.Background())
			_ = s.Save(context.Background(), puts(peerRule(1)))
			_ = s.Close()
		}
	})
}
