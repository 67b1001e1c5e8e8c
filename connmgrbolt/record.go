package connmgrbolt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"net/netip"
	"time"

	"github.com/dep2p/connmgr"
)

// This file says how a rule is written: as a record with a key and a value. A rule
// has one key and one value, and no two rules have the same key. All numbers are
// big-endian.
//
// The key is what makes a rule that rule: one byte for the effect, one for the kind
// of target, the target, and then, up to the end, the origin.
//
//	peer   2 bytes of length, the ID
//	IPv4   4 bytes of address, 1 byte of prefix length
//	IPv6   16 bytes of address, 1 byte of prefix length
//	port   2 bytes
//
// The value is the rest: one byte for the version of the record, one for flags, 8
// bytes of nanoseconds since 1970 if the flags say that the rule expires, the reason,
// and 4 bytes of CRC-32C over the key and all of the value before.
//
// A valid rule has texts and IDs of a few thousand bytes at most, so its key is far from
// the 32,768 bytes that bolt's can have.

const recordVersion = 1

const (
	effectDeny  = 0
	effectAllow = 1
)

const (
	kindPeer = 1
	kindIPv4 = 2
	kindIPv6 = 3
	kindPort = 4
)

// flagExpires says that a rule expires.
const flagExpires = 1

const (
	// minValue is the length in bytes of the shortest value.
	minValue = 2 + crcSize
	crcSize  = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendKey appends the key of a valid rule.
func appendKey(b []byte, r connmgr.Rule) ([]byte, error) {
	switch r.Effect {
	case connmgr.Deny:
		b = append(b, effectDeny)
	case connmgr.Allow:
		b = append(b, effectAllow)
	default:
		return nil, fmt.Errorf("cannot keep a rule to %v", r.Effect)
	}
	if peer, ok := r.Target.Peer(); ok {
		if len(peer) > math.MaxUint16 {
			return nil, fmt.Errorf("cannot keep a peer ID of %d bytes", len(peer))
		}
		b = append(b, kindPeer)
		b = binary.BigEndian.AppendUint16(b, uint16(len(peer)))
		b = append(b, peer...)
	} else if prefix, ok := r.Target.Prefix(); ok {
		kind := byte(kindIPv6)
		if prefix.Addr().Is4() {
			kind = kindIPv4
		}
		b = append(b, kind)
		b = append(b, prefix.Addr().AsSlice()...)
		b = append(b, byte(prefix.Bits()))
	} else if port, ok := r.Target.Port(); ok {
		b = append(b, kindPort)
		b = binary.BigEndian.AppendUint16(b, port)
	} else {
		return nil, fmt.Errorf("cannot keep a rule about %v", r.Target)
	}
	return append(b, r.Origin...), nil
}

// appendValue appends the value of a valid rule whose key is given.
func appendValue(b, key []byte, r connmgr.Rule) []byte {
	start := len(b)
	if r.Expires.IsZero() {
		b = append(b, recordVersion, 0)
	} else {
		b = append(b, recordVersion, flagExpires)
		b = binary.BigEndian.AppendUint64(b, uint64(r.Expires.UnixNano()))
	}
	b = append(b, r.Reason...)
	return binary.BigEndian.AppendUint32(b, checksum(key, b[start:]))
}

// checksum is the CRC-32C of a key and of a value without its own checksum.
func checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

// storedChecksum is the checksum that a value of at least crcSize bytes says it has.
func storedChecksum(value []byte) uint32 {
	return binary.BigEndian.Uint32(value[len(value)-crcSize:])
}

// decodeRecord returns the rule of a record. It accepts exactly what appendKey and
// appendValue write, and nothing else, whatever the bytes are.
func decodeRecord(key, value []byte, known texts) (connmgr.Rule, error) {
	rule, err := decodeBytes(key, value, known)
	if err == nil {
		if invalid := rule.Validate(); invalid != nil {
			err = damaged("%v", invalid)
		}
	}
	if err != nil {
		return connmgr.Rule{}, fmt.Errorf("record %s: %w", shown(key), err)
	}
	return rule, nil
}

func decodeBytes(key, value []byte, known texts) (r connmgr.Rule, err error) {
	if len(value) < minValue {
		return r, damaged("its value has %d bytes, must have at least %d", len(value), minValue)
	}
	body := value[:len(value)-crcSize]
	if got, want := checksum(key, body), storedChecksum(value); got != want {
		return r, damaged("its checksum is %08x, must be %08x", got, want)
	}
	if body[0] != recordVersion {
		return r, newer(uint32(body[0]), recordVersion)
	}
	k := reader{rest: key}
	switch effect := k.byte(); effect {
	case effectDeny:
		r.Effect = connmgr.Deny
	case effectAllow:
		r.Effect = connmgr.Allow
	default:
		return r, damaged("its effect is %d", effect)
	}
	v := reader{rest: body[1:]}
	flags := v.byte()
	if flags&^flagExpires != 0 {
		return r, damaged("its flags are %#x", flags)
	}
	if flags&flagExpires != 0 {
		r.Expires = time.Unix(0, int64(v.uint64())).UTC()
	}
	if r.Target, err = decodeTarget(&k); err != nil {
		return r, err
	}
	if k.short || v.short {
		return r, damaged("it is cut short")
	}
	r.Origin, r.Reason = known.text(k.rest), known.text(v.rest)
	return r, nil
}

// decodeTarget reads the target from the key.
func decodeTarget(k *reader) (connmgr.Target, error) {
	switch kind := k.byte(); kind {
	case kindPeer:
		return connmgr.PeerTarget(connmgr.NodeID(k.bytes(int(k.uint16())))), nil
	case kindIPv4, kindIPv6:
		size := 4
		if kind == kindIPv6 {
			size = 16
		}
		addr, _ := netip.AddrFromSlice(k.bytes(size))
		prefix := netip.PrefixFrom(addr, int(k.byte()))
		target := connmgr.PrefixTarget(prefix)
		if canonical, ok := target.Prefix(); !ok || canonical != prefix {
			return connmgr.Target{}, damaged("%v is no prefix to keep", prefix)
		}
		return target, nil
	case kindPort:
		return connmgr.PortTarget(k.uint16()), nil
	default:
		return connmgr.Target{}, damaged("it is about a target of kind %d", kind)
	}
}

// reader takes bytes from the front. Where there are too few it gives zeros, and
// short is set.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.short = true
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte     { return r.bytes(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.bytes(2)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.bytes(8)) }

// texts keeps one copy of texts that many rules share, such as the name of a block
// list.
type texts map[string]string

// maxTexts bounds them: reasons may all be different.
const maxTexts = 4096

func (t texts) text(b []byte) string {
	if s, ok := t[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(t) < maxTexts {
		t[s] = s
	}
	return s
}

// shown is a key in an error.
func shown(key []byte) string {
	const most = 64
	if len(key) > most {
		return fmt.Sprintf("%x… (%d bytes)", key[:most], len(key))
	}
	return fmt.Sprintf("%x", key)
}
