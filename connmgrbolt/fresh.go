package connmgrbolt

import (
	"hash/fnv"
	"io"
)

// This file knows a file that bbolt has not finished making: the process was killed,
// the power failed or the disk was full while it wrote the first four pages. Nothing
// was ever saved in it, so it is as good as an empty one.

// freshPages is the number of pages of a new bolt file.
const freshPages = 4

// unfinished reports whether a file is empty or was not finished: every byte is zero,
// or what bbolt writes there when it makes a file.
func unfinished(file io.ReaderAt, size int64) (bool, error) {
	const smallest, largest = 1 << 12, 1 << 16 // pages of the systems there are
	if size > freshPages*largest {
		return false, nil
	}
	is := make([]byte, size)
	if _, err := file.ReadAt(is, 0); err != nil {
		return false, err
	}
	for pageSize := smallest; pageSize <= largest; pageSize *= 2 {
		if len(is) <= freshPages*pageSize && partly(is, newFile(pageSize)) {
			return true, nil
		}
	}
	return false, nil
}

// partly reports whether every byte is zero or as wanted.
func partly(is, want []byte) bool {
	for i, b := range is {
		if b != 0 && b != want[i] {
			return false
		}
	}
	return true
}

// newFile returns a bolt file as bbolt makes it: two meta pages, an empty list of
// free pages, and an empty leaf as the root.
func newFile(pageSize int) []byte {
	const freelist, root = 2, 3
	b := make([]byte, freshPages*pageSize)
	for id, flags := range [freshPages]uint16{metaPage, metaPage, freelistPage, leafPage} {
		page := b[id*pageSize:]
		order.PutUint64(page, uint64(id))
		order.PutUint16(page[8:], flags)
		if flags != metaPage {
			continue
		}
		m := page[pageHeader:][:metaSize]
		order.PutUint32(m, boltMagic)
		order.PutUint32(m[4:], boltVersion)
		order.PutUint32(m[8:], uint32(pageSize))
		order.PutUint64(m[16:], root)
		order.PutUint64(m[32:], freelist)
		order.PutUint64(m[40:], freshPages)
		order.PutUint64(m[48:], uint64(id))
		h := fnv.New64a()
		h.Write(m[:metaSize-8])
		order.PutUint64(m[56:], h.Sum64())
	}
	return b
}
