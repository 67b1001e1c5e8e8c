package siphash

import "testing"

// The first vectors of the reference implementation: key 00 01 … 0f, message
// 00 01 … of the given length.
func TestSum64AgreesWithThePublishedVectors(t *testing.T) {
	want := map[int]uint64{
		0:  0x726fdb47dd0e0e31,
		1:  0x74f839c593dc67fd,
		7:  0xab0200f58b01d137,
		8:  0x93f5f5799a932462,
		15: 0xa129ca6149be45e5,
	}
	message := make([]byte, 16)
	for i := range message {
		message[i] = byte(i)
	}
	for n, w := range want {
		if got := Sum64(0x0706050403020100, 0x0f0e0d0c0b0a0908, string(message[:n])); got != w {
			t.Errorf("message of %d bytes: got %#x, want %#x", n, got, w)
		}
	}
}
