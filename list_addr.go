package connmgr

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// This file reads what lists say about addresses: CIDRs, netmasks and ranges, and what
// is wrong with those that are none.

// span is a prefix, or a range of addresses of one family.
type span struct {
	prefix   netip.Prefix
	from, to netip.Addr
}

func (s span) isRange() bool { return s.from.IsValid() }

const (
	wantAddr4   = "an IPv4 address: four numbers from 0 to 255"
	wantAddr6   = "an IPv6 address, such as 2001:db8::1"
	wantNoZeros = "an IPv4 address without leading zeros: programs differ in how they read them"
	wantNoZone  = "an address without a zone: rules are for all interfaces"
	wantNoPort  = "an address without a port"
	wantNoFrame = "an address without brackets or port"
	wantBits4   = "a prefix length from 0 to 32"
	wantBits6   = "a prefix length from 0 to 128"
	wantMask    = "a netmask with all its ones in front, such as 255.255.240.0"
	wantTo      = `two addresses with "-" between them`
	wantUpwards = "the lower address of a range first"
	wantOneKind = "a range of either IPv4 or IPv6"
	wantCIDR    = "CIDRs: this range is as wide as if a name stood before its first address"
)

// maxAddrText is the length of the longest address.
const maxAddrText = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")

// parseSpan reads an address, a CIDR, an address with a netmask, or a range. It wants
// a target if the line does not begin like any of them.
func parseSpan(line string) (s span, rest, want string) {
	n := addrLen(line)
	if n == 0 {
		return span{}, "", wantTarget
	}
	addr, err := netip.ParseAddr(line[:n])
	if err != nil {
		word, _ := cutBare(line)
		return span{}, "", addrFault(word)
	}
	rest = strings.TrimLeft(line[n:], listBlanks)
	switch {
	case rest == "":
	case line[n] == '%':
		return span{}, "", wantNoZone
	case line[n] == '/':
		word, rest := cutBare(line[n+1:])
		if i := strings.IndexAny(word, ",-"); i > 0 && word[i] == '-' {
			return span{}, "", wantTo
		} else if i > 0 {
			return span{}, "", wantAfter
		}
		length, want := parseBits(addr, word)
		return span{prefix: netip.PrefixFrom(addr, length)}, rest, want
	case rest[0] == '-':
		rest = strings.TrimLeft(rest[1:], listBlanks)
		end := addrLen(rest)
		to, err := netip.ParseAddr(rest[:end])
		if err != nil || end < len(rest) && strings.IndexByte("/-,%", rest[end]) >= 0 {
			return span{}, "", wantTo
		}
		if mayBeName(line[:n], addr, to) {
			return span{}, "", wantCIDR
		}
		s, want := newRange(addr, to)
		return s, strings.TrimLeft(rest[end:], listBlanks), want
	case addr.Is4():
		// Only what begins with 255 is a mask for certain, and no address.
		word, after := cutBare(rest)
		if length, want := parseBits(addr, word); want == "" && length >= 8 && strings.Contains(word, ".") {
			return span{prefix: netip.PrefixFrom(addr, length)}, after, ""
		}
	}
	return span{prefix: netip.PrefixFrom(addr, addr.BitLen())}, rest, ""
}

// addrLen returns the length of what can only be meant as an address at the beginning
// of a line, or 0.
func addrLen(line string) int {
	marks := false
	for i := range len(line) {
		switch c := line[i]; {
		case c == '.' || c == ':':
			marks = true
		case isHexDigit(c):
		case strings.IndexByte(" \t/-#;,%", c) >= 0 && marks:
			return i
		default:
			return 0
		}
	}
	if !marks {
		return 0
	}
	return len(line)
}

func isHexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// looksLikeAddr reports whether a word is a mistyped address or CIDR rather than the
// name of a peer. If in doubt it is: "peer" can stand before the name.
func looksLikeAddr(word string) bool {
	if word == "" {
		return false
	}
	if addrLen(word) > 0 || word[0] == '[' || isDigit(word[0]) && strings.ContainsAny(word, "./") {
		return true
	}
	if slash := strings.LastIndexByte(word, '/'); slash >= 0 && strings.Trim(word[slash+1:], "0123456789") == "" {
		return true
	}
	group, _, colon := strings.Cut(word, ":")
	return colon && len(group) <= 4 && strings.TrimFunc(group, func(c rune) bool { return c < utf8.RuneSelf && isHexDigit(byte(c)) }) == ""
}

// addrFault says what is wrong with a word that looks like an address.
func addrFault(word string) (want string) {
	colons := strings.Count(word, ":")
	switch {
	case strings.Contains(word, "%"):
		return wantNoZone
	case strings.HasPrefix(word, "["):
		return wantNoFrame
	case colons == 1 && strings.Contains(word, "."):
		return wantNoPort
	case colons > 0:
		return wantAddr6
	}
	before := byte('.')
	for i := range len(word) - 1 {
		if before == '.' && word[i] == '0' && isDigit(word[i+1]) {
			return wantNoZeros
		}
		before = word[i]
	}
	return wantAddr4
}

// parseBits reads what comes after the slash: a length, or a netmask of IPv4.
func parseBits(addr netip.Addr, word string) (length int, want string) {
	if strings.Contains(word, ".") {
		mask, err := netip.ParseAddr(word)
		if err != nil || !addr.Is4() || !mask.Is4() {
			return 0, wantMask
		}
		b := mask.As4()
		ones := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		length = bits.LeadingZeros32(^ones)
		if ones<<length != 0 {
			return 0, wantMask
		}
		return length, ""
	}
	if len(word) == 0 || len(word) > 3 || len(word) > 1 && word[0] == '0' {
		length = -1
	}
	for i := range len(word) {
		if length < 0 || !isDigit(word[i]) {
			length = -1
			break
		}
		length = 10*length + int(word[i]-'0')
	}
	switch {
	case length >= 0 && length <= addr.BitLen():
		return length, ""
	case addr.Is4():
		return 0, wantBits4
	default:
		return 0, wantBits6
	}
}

// newRange returns the range of two addresses, the last one included.
func newRange(from, to netip.Addr) (s span, want string) {
	from, to = from.Unmap(), to.Unmap()
	switch {
	case from.Is4() != to.Is4():
		return span{}, wantOneKind
	case to.Less(from):
		return span{}, wantUpwards
	}
	return span{from: from, to: to}, ""
}

// parseNamedRange reads "NAME:FROM-TO". It wants a target if the line does not end
// like one.
//
// A name can have colons and dashes, so a line is read from its end. IPv6 has colons
// itself: of the addresses FROM could be, it is the one that is next to TO. A line that
// could be a mistyped range of IPv6 without a name is refused, since its last groups
// alone would be quite another range.
func parseNamedRange(line string) (name string, s span, want string) {
	dash := strings.LastIndexByte(line, '-')
	if dash < 0 {
		return "", span{}, wantTarget
	}
	to, ok := wholeAddr(strings.Trim(line[dash+1:], listBlanks))
	line = strings.TrimRight(line[:dash], listBlanks)
	colon := strings.LastIndexByte(line, ':')
	if !ok || colon < 0 {
		return "", span{}, wantTarget
	}
	from, ok := wholeAddr(strings.TrimLeft(line[colon+1:], listBlanks))
	if !to.Is4() {
		from, colon, ok = nextTo(line, to)
	}
	name = strings.TrimRight(line[:colon], listBlanks)
	first, _ := cutWord(name)
	if !ok || strings.Count(line, ":") > 1 && addrLen(line) == len(line) || !to.Is4() && looksLikeAddr(first) {
		return "", span{}, wantTarget
	}
	s, want = newRange(from, to)
	return name, s, want
}

// nextTo returns, of the addresses of IPv6 that a text can end with, the one that is
// next to the end of a range, and where the colon before it is.
func nextTo(text string, to netip.Addr) (from netip.Addr, colon int, ok bool) {
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] != ':' {
			continue
		}
		addr, is := wholeAddr(strings.TrimLeft(text[i+1:], listBlanks))
		if is && !addr.Is4() && !to.Less(addr) && (!ok || from.Less(addr)) {
			from, colon, ok = addr, i, true
		}
	}
	return from, colon, ok
}

// mayBeName reports whether a range of IPv6 may rather be one with a name of a few
// letters from a to f: its ends have nothing in common, and would have without what is
// before the first colon or a later one.
func mayBeName(text string, from, to netip.Addr) bool {
	if !to.Is6() || sameGroup(from, to) {
		return false
	}
	from, _, ok := nextTo(text, to)
	return ok && sameGroup(from, to)
}

// sameGroup reports whether two addresses of IPv6 are alike before the first colon.
func sameGroup(a, b netip.Addr) bool { return wideAddr(a).hi>>48 == wideAddr(b).hi>>48 }

// wholeAddr reads a text that is an address and nothing else. One that is too long is
// not looked at: nextTo asks for every colon of a line.
func wholeAddr(text string) (netip.Addr, bool) {
	if len(text) > maxAddrText || text == "" || addrLen(text) != len(text) {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(text)
	return addr, err == nil
}

// prefixes returns the fewest prefixes that make up a range, in order: at most 62 of
// IPv4 and 254 of IPv6. A range of IPv6 leaves out the IPv4-mapped addresses if they
// are a prefix of their own: a rule about that would be one about all of IPv4.
func (s span) prefixes() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		from, to := wideAddr(s.from), wideAddr(s.to)
		// The smallest prefix that has both ends, and then its halves.
		length := bits.LeadingZeros64(from.hi ^ to.hi)
		if length == 64 {
			length += bits.LeadingZeros64(from.lo ^ to.lo)
		}
		s.halve(from, to, from.masked(length), length, yield)
	}
}

// halve yields the prefixes within a prefix, and reports whether to go on.
func (s span) halve(from, to, first wide, length int, yield func(netip.Prefix) bool) bool {
	last := first.last(length)
	switch {
	case last.less(from) || to.less(first):
		return true
	case first.less(from) || to.less(last):
		return s.halve(from, to, first, length+1, yield) && s.halve(from, to, last.masked(length+1), length+1, yield)
	}
	addr := first.addr()
	if s.from.Is4() {
		addr, length = addr.Unmap(), length-96
	} else if addr.Is4In6() && length >= 96 {
		return true
	}
	return yield(netip.PrefixFrom(addr, length))
}

// wide is an address as a number of 128 bits; IPv4 is IPv4-mapped.
type wide struct{ hi, lo uint64 }

func wideAddr(addr netip.Addr) wide {
	b := addr.As16()
	return wide{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:])}
}

func (w wide) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], w.hi)
	binary.BigEndian.PutUint64(b[8:], w.lo)
	return netip.AddrFrom16(b)
}

func (w wide) less(v wide) bool { return w.hi < v.hi || w.hi == v.hi && w.lo < v.lo }

// masked and last return the first and the last address of the prefix of some length
// that w is in.
func (w wide) masked(length int) wide {
	host := hostBits(length)
	return wide{hi: w.hi &^ host.hi, lo: w.lo &^ host.lo}
}

func (w wide) last(length int) wide {
	host := hostBits(length)
	return wide{hi: w.hi | host.hi, lo: w.lo | host.lo}
}

// hostBits are those behind a prefix.
func hostBits(length int) wide {
	if length >= 64 {
		return wide{lo: ^uint64(0) >> (length - 64)}
	}
	return wide{hi: ^uint64(0) >> length, lo: ^uint64(0)}
}
