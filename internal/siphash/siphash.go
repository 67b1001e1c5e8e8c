// Package siphash computes SipHash-2-4, a short keyed hash: without the key
// nobody can choose an input so that its hash comes out small. The standard
// library's keyed hash (hash/maphash) has keys that cannot be written down, so
// the same plan could not be made twice.
//
// Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).
package siphash

import (
	"encoding/binary"
	"math/bits"
)

// Sum64 returns the SipHash-2-4 of s under the key (k0, k1).
func Sum64(k0, k1 uint64, s string) uint64 {
	v := state{
		k0 ^ 0x736f6d6570736575,
		k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261,
		k1 ^ 0x7465646279746573,
	}
	var block [8]byte
	rest := s
	for len(rest) >= 8 {
		copy(block[:], rest)
		v.absorb(binary.LittleEndian.Uint64(block[:]))
		rest = rest[8:]
	}
	block = [8]byte{7: byte(len(s))}
	copy(block[:7], rest)
	v.absorb(binary.LittleEndian.Uint64(block[:]))

	v[2] ^= 0xff
	for range 4 {
		v.round()
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

type state [4]uint64

func (v *state) absorb(m uint64) {
	v[3] ^= m
	v.round()
	v.round()
	v[0] ^= m
}

func (v *state) round() {
	v[0] += v[1]
	v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
	v[0] = bits.RotateLeft64(v[0], 32)
	v[2] += v[3]
	v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
	v[0] += v[3]
	v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
	v[2] += v[1]
	v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
	v[2] = bits.RotateLeft64(v[2], 32)
}
