package connmgrbolt

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
)

// seal appends the checksum that makes a value one of a key.
func seal(key, body []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(body), checksum(key, body))
}

// write returns the record of a rule.
func write(t testing.TB, r connmgr.Rule) (key, value []byte) {
	t.Helper()
	key, err := appendKey(nil, r)
	if err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	return key, appendValue(nil, key, r)
}

// The bytes of a few records, since files are read by later versions.
func TestRecordsAreWrittenAsTheFormatSays(t *testing.T) {
	prefix := func(s string) connmgr.Target { return connmgr.PrefixTarget(netip.MustParsePrefix(s)) }
	for _, c := range []struct {
		rule       connmgr.Rule
		key, value string // in hexadecimal; the value without its checksum
	}{
		{connmgr.Rule{Target: connmgr.PeerTarget("abc"), Origin: "o"}, "0001" + "0003616263" + "6f", "0100"},
		{connmgr.Rule{Effect: connmgr.Allow, Target: connmgr.PortTarget(258)}, "0104" + "0102", "0100"},
		{connmgr.Rule{Target: prefix("10.0.0.0/8"), Reason: "r"}, "0002" + "0a00000008", "0100" + "72"},
		{connmgr.Rule{Target: prefix("2001:db8::/32"), Expires: time.Unix(1, 2)}, "0003" + "20010db8000000000000000000000000" + "20", "0101" + "000000003b9aca02"},
	} {
		key, value := write(t, c.rule)
		if got := hex.EncodeToString(key); got != c.key {
			t.Errorf("%v has key %s, want %s", c.rule, got, c.key)
		}
		if got := hex.EncodeToString(value[:len(value)-crcSize]); got != c.value {
			t.Errorf("%v has value %s, want %s", c.rule, got, c.value)
		}
		if want := seal(key, value[:len(value)-crcSize]); !bytes.Equal(value, want) {
			t.Errorf("%v has value %x, want %x", c.rule, value, want)
		}
	}
}

func TestARecordWithAnyBitChangedIsRefused(t *testing.T) {
	r := connmgr.Rule{Target: connmgr.PeerTarget("abc"), Origin: "from", Reason: "why", Expires: time.Unix(1, 2)}
	key, value := write(t, r)
	for i := range 8 * (len(key) + len(value)) {
		k, v := bytes.Clone(key), bytes.Clone(value)
		if i < 8*len(key) {
			k[i/8] ^= 1 << (i % 8)
		} else {
			v[i/8-len(key)] ^= 1 << (i % 8)
		}
		if got, err := decodeRecord(k, v, texts{}); err == nil {
			t.Errorf("with bit %d changed it is read as %v, want an error", i, got)
		}
	}
}

// Records with a good checksum that no version has written.
func TestRecordsThatNobodyWritesAreRefused(t *testing.T) {
	port, never := "\x00\x04\x00\x01", "\x01\x00"
	for what, c := range map[string]struct{ key, body string }{
		"no key":                 {"", never},
		"effect only":            {"\x00", never},
		"unknown effect":         {"\x02\x04\x00\x01", never},
		"unknown kind":           {"\x00\x05\x00\x01", never},
		"kind 0":                 {"\x00\x00", never},
		"half a port":            {"\x00\x04\x00", never},
		"unknown flags":          {port, "\x01\x02"},
		"half an expiry":         {port, "\x01\x01\x00\x00"},
		"expiry before 1970":     {port, "\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff"},
		"expiry in 2262":         {port, "\x01\x01\x7f\xff\xff\xff\xff\xff\xff\xff"},
		"line break in reason":   {port, never + "a\nb"},
		"long reason":            {port, never + strings.Repeat("x", 1025)},
		"line break in origin":   {port + "\r", never},
		"peer that is not there": {"\x00\x01\x00\x05abc", never},
		"peer of 4097 bytes":     {"\x00\x01\x10\x01" + strings.Repeat("x", 4097), never},
		"IPv4 with 33 bits":      {"\x00\x02\x0a\x00\x00\x00\x21", never},
		"IPv4 with stray bits":   {"\x00\x02\x0a\x00\x00\x01\x08", never},
		"IPv6 that is IPv4":      {"\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x00\x68", never},
		"IPv6 with 129 bits":     {"\x00\x03" + strings.Repeat("\x01", 16) + "\x81", never},
		"half an IPv6":           {"\x00\x03\x01\x02", never},
		"no flags":               {port, "\x01"},
		"nothing":                {port, ""},
	} {
		key := []byte(c.key)
		if got, err := decodeRecord(key, seal(key, []byte(c.body)), texts{}); err == nil {
			t.Errorf("%s: it is read as %v, want an error", what, got)
		}
	}
}

// FuzzDecodeRecord holds that no bytes do harm, and that what is read is written again
// as the same bytes: so no rule can be there twice.
func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte{}, []byte{})
	for _, target := range []connmgr.Target{
		connmgr.PeerTarget("peer"),
		connmgr.PortTarget(443),
		connmgr.PrefixTarget(netip.MustParsePrefix("10.0.0.0/8")),
		connmgr.PrefixTarget(netip.MustParsePrefix("2001:db8::/32")),
	} {
		key, value := write(f, connmgr.Rule{Target: target, Origin: "o", Reason: "r", Expires: time.Unix(1, 2)})
		f.Add(key, value[:len(value)-crcSize])
	}
	f.Fuzz(func(t *testing.T, key, body []byte) {
		if _, err := decodeRecord(key, body, texts{}); err == nil && len(body) < minValue {
			t.Errorf("a value of %d bytes is read without error", len(body))
		}
		value := seal(key, body) // else hardly any bytes would come past the checksum
		r, err := decodeRecord(key, value, texts{})
		if err != nil {
			return
		}
		again, err := appendKey(nil, r)
		if err != nil {
			t.Fatalf("%v was read, but cannot be written: %v", r, err)
		}
		if !bytes.Equal(again, key) {
			t.Errorf("%v was read from key %x, but has key %x", r, key, again)
		}
		if got := appendValue(nil, key, r); !bytes.Equal(got, value) {
			t.Errorf("%v was read from value %x, but has value %x", r, value, got)
		}
	})
}

// FuzzWriteRecord holds that every valid rule is read as it was written.
func FuzzWriteRecord(f *testing.F) {
	f.Add(true, uint8(0), "peer", []byte{}, uint8(0), uint16(0), "origin", "reason", int64(0), false)
	f.Add(false, uint8(1), "", []byte{10, 0, 0, 1}, uint8(8), uint16(0), "", "", int64(1), true)
	f.Add(false, uint8(1), "", make([]byte, 16), uint8(128), uint16(0), "", "", int64(0), true)
	f.Add(false, uint8(2), "", []byte{}, uint8(0), uint16(443), "o", "", int64(-1), true)
	f.Add(false, uint8(0), strings.Repeat("x", 4096), []byte{}, uint8(0), uint16(0), "", "\xff", int64(1), true)
	f.Fuzz(func(t *testing.T, allow bool, kind uint8, peer string, addr []byte, bits uint8, port uint16, origin, reason string, expires int64, ends bool) {
		r := connmgr.Rule{Origin: origin, Reason: reason}
		if allow {
			r.Effect = connmgr.Allow
		}
		switch kind % 3 {
		case 0:
			r.Target = connmgr.PeerTarget(connmgr.NodeID(peer))
		case 1:
			ip, _ := netip.AddrFromSlice(addr)
			r.Target = connmgr.PrefixTarget(netip.PrefixFrom(ip, int(bits)))
		default:
			r.Target = connmgr.PortTarget(port)
		}
		if ends {
			r.Expires = time.Unix(0, expires).UTC()
		}
		if r.Validate() != nil {
			return
		}
		key, value := write(t, r)
		if got, err := decodeRecord(key, value, texts{}); err != nil || got != r {
			t.Errorf("%v is read as %v, %v", r, got, err)
		}
	})
}
