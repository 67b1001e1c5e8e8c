package connmgrbolt

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"io"
	"slices"
)

// This file checks a bolt file before bbolt gets it. bbolt maps the file to memory
// and follows it without a second look: a damaged page makes it panic, read memory
// that is not there, turn in circles or allocate without bound, and not all of that
// can be recovered from. So every page that bbolt would follow is read once, in the
// ordinary way.
//
// Source of the layout: bbolt, internal/common. All numbers are in the machine's byte
// order.
//
//	page      id uint64, flags uint16, count uint16, overflow uint32, then elements;
//	          overflow is the number of further pages that belong to it
//	meta      magic, version, page size, flags uint32; root uint64, sequence uint64;
//	          freelist, end, transaction, checksum uint64
//	leaf      elements of flags, position, key size, value size uint32
//	branch    elements of position, key size uint32, page uint64
//	bucket    the value of a leaf element: root uint64, sequence uint64, and if root
//	          is 0, the bucket's only page
//	freelist  page IDs uint64; if count is 0xFFFF, the first is their number
//
// Positions count from the start of their element.

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader  = 16
	elementSize = 16
	bucketSize  = 16
	metaSize    = 64

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10

	bucketElement = 1          // the flag of a leaf element that is a bucket
	noFreelist    = ^uint64(0) // the file has none, and bbolt makes one by looking
	maxDepth      = 64         // of pages and buckets in each other; bbolt's are less than 20
	minPageSize   = 1 << 9     // in bytes
	maxPageSize   = 1 << 24    // the largest that bbolt looks for
)

var order = binary.NativeEndian

// meta is what a meta page says. There are two; transactions write them in turn.
type meta struct {
	pageSize uint64
	root     uint64
	freelist uint64
	end      uint64 // no page from here on is in use
	txid     uint64
}

func parseMeta(page []byte, id uint64) (meta, error) {
	if len(page) < pageHeader+metaSize {
		return meta{}, damaged("it is too short for a bolt file")
	}
	b := page[pageHeader:]
	if order.Uint32(b) != boltMagic {
		return meta{}, damaged("page %d is not one of a bolt file", id)
	}
	if v := order.Uint32(b[4:]); v != boltVersion {
		return meta{}, damaged("page %d is of bolt's version %d, must be %d", id, v, boltVersion)
	}
	h := fnv.New64a()
	h.Write(b[:metaSize-8])
	if order.Uint64(page) != id || order.Uint16(page[8:]) != metaPage || order.Uint64(b[56:]) != h.Sum64() {
		return meta{}, damaged("page %d, which says where everything is, has changed", id)
	}
	return meta{
		pageSize: uint64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		end:      order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
	}, nil
}

// checkFile returns the names of the buckets at the top of a bolt file, none if there
// has never been a transaction, or what is wrong with the file.
//
// bbolt goes on with one of the two meta pages if the other is damaged. Here that is
// an error: it may be the latest, and then the last transaction is lost. A write that
// was torn by a power cut would leave a file like that, but a meta page fits in the
// unit that disks write as a whole.
func checkFile(file io.ReaderAt, size int64) ([][]byte, error) {
	c := checker{file: file}
	m, err := c.meta(0, size)
	if err != nil {
		return nil, err
	}
	if s := m.pageSize; s < minPageSize || s > maxPageSize || s&(s-1) != 0 {
		return nil, damaged("its pages have %d bytes", s)
	}
	c.pageSize = m.pageSize
	other, err := c.meta(1, size)
	if err != nil {
		return nil, err
	}
	if other.pageSize != c.pageSize {
		return nil, damaged("pages 0 and 1 do not agree on the size of pages")
	}
	if other.txid > m.txid {
		m, other = other, m
	}
	// They are equal if somebody has put one in the place of the other to repair it.
	if m.txid-other.txid > 1 {
		return nil, damaged("pages 0 and 1 are of transactions %d and %d, must be of two in a row", other.txid, m.txid)
	}
	if m.end > uint64(size)/c.pageSize {
		return nil, damaged("it has %d bytes, must have at least %d pages of %d bytes", size, m.end, c.pageSize)
	}
	c.used = make([]bool, m.end)
	if err := c.tree(m.root, 0, nil, nil); err != nil {
		return nil, err
	}
	if m.freelist != noFreelist {
		if err := c.freelist(m.freelist); err != nil {
			return nil, err
		}
	}
	// New files have 0 and 1 here. Without this a root that has lost its elements would
	// look like one that never had any.
	if len(c.names) == 0 && m.txid > 1 {
		return nil, damaged("its list of buckets is empty")
	}
	return c.names, nil
}

type checker struct {
	file     io.ReaderAt
	pageSize uint64
	used     []bool   // by page: it belongs to something
	names    [][]byte // of the buckets at the top
	inside   int      // buckets that the page that is looked at is inside of
	// levels has what is being looked at, by depth, to be used again.
	levels [maxDepth]struct {
		page     []byte
		elements []element
	}
}

// element is a part of a page.
type element struct {
	key    []byte
	value  []byte // in a leaf
	bucket bool   // in a leaf: value is that of a bucket
	child  uint64 // in a branch
}

func (c *checker) meta(id uint64, size int64) (meta, error) {
	at := int64(id * c.pageSize)
	page := make([]byte, max(0, min(pageHeader+metaSize, size-at)))
	if _, err := c.file.ReadAt(page, at); err != nil {
		return meta{}, err
	}
	return parseMeta(page, id)
}

// take notes that pages belong to something. Each can belong to one thing only, so
// there are no circles.
func (c *checker) take(id, count uint64) error {
	end := uint64(len(c.used))
	if id < 2 || id > end || count > end-id {
		return damaged("page %d is outside", id)
	}
	for i := range count {
		if c.used[id+i] {
			return damaged("page %d is in two places", id+i)
		}
		c.used[id+i] = true
	}
	return nil
}

// page reads a page with its overflow pages.
func (c *checker) page(id uint64, depth int) ([]byte, error) {
	if depth >= maxDepth {
		return nil, damaged("page %d is too deep", id)
	}
	if err := c.take(id, 1); err != nil {
		return nil, err
	}
	b := slices.Grow(c.levels[depth].page[:0], int(c.pageSize))[:c.pageSize]
	c.levels[depth].page = b
	if _, err := c.file.ReadAt(b, int64(id*c.pageSize)); err != nil {
		return nil, err
	}
	if got := order.Uint64(b); got != id {
		return nil, damaged("page %d says that it is page %d", id, got)
	}
	if more := uint64(order.Uint32(b[12:])); more > 0 {
		if err := c.take(id+1, more); err != nil {
			return nil, err
		}
		b = slices.Grow(b, int(more*c.pageSize))[:(1+more)*c.pageSize]
		c.levels[depth].page = b
		if _, err := c.file.ReadAt(b[c.pageSize:], int64((id+1)*c.pageSize)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// tree checks a page and all below. Its keys must be at least low, and less than high
// unless that is nil.
func (c *checker) tree(id uint64, depth int, low, high []byte) error {
	page, err := c.page(id, depth)
	if err != nil {
		return err
	}
	leaf := order.Uint16(page[8:]) == leafPage
	if !leaf && order.Uint16(page[8:]) != branchPage {
		return damaged("page %d is neither branch nor leaf", id)
	}
	elements, err := c.elements(page, id, depth, low, high)
	if err != nil {
		return err
	}
	if !leaf && len(elements) == 0 {
		return damaged("branch page %d is empty", id)
	}
	for i, e := range elements {
		switch {
		case !leaf:
			next := high
			if i+1 < len(elements) {
				next = elements[i+1].key
			}
			err = c.tree(e.child, depth+1, e.key, next)
		case e.bucket:
			if c.inside == 0 {
				c.names = append(c.names, bytes.Clone(e.key))
			}
			c.inside++
			err = c.bucket(e.value, id, depth+1)
			c.inside--
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks a bucket; id is the page of its value.
func (c *checker) bucket(value []byte, id uint64, depth int) error {
	if len(value) < bucketSize {
		return damaged("a bucket in page %d is cut short", id)
	}
	if root := order.Uint64(value); root != 0 {
		return c.tree(root, depth, nil, nil)
	}
	page := value[bucketSize:]
	if depth >= maxDepth || len(page) < pageHeader || order.Uint16(page[8:]) != leafPage {
		return damaged("a bucket in page %d is no bucket", id)
	}
	elements, err := c.elements(page, id, depth, nil, nil)
	if slices.ContainsFunc(elements, func(e element) bool { return e.bucket }) {
		return damaged("a bucket in page %d has buckets where there is no room for them", id)
	}
	return err
}

// elements returns the parts of a leaf or branch page; id is for errors.
func (c *checker) elements(page []byte, id uint64, depth int, low, high []byte) ([]element, error) {
	leaf, count := order.Uint16(page[8:]) == leafPage, int(order.Uint16(page[10:]))
	data := pageHeader + count*elementSize
	if data > len(page) {
		return nil, damaged("page %d has no room for %d elements", id, count)
	}
	elements := c.levels[depth].elements[:0]
	for i := range count {
		at := pageHeader + i*elementSize
		var e element
		var pos, keySize, valueSize uint64
		if leaf {
			flags := order.Uint32(page[at:])
			if flags&^bucketElement != 0 {
				return nil, damaged("element %d of page %d has flags %#x", i, id, flags)
			}
			e.bucket = flags == bucketElement
			pos, keySize, valueSize = u32(page, at+4), u32(page, at+8), u32(page, at+12)
		} else {
			pos, keySize = u32(page, at), u32(page, at+4)
			e.child = order.Uint64(page[at+8:])
		}
		start := uint64(at) + pos
		if start < uint64(data) || start+keySize+valueSize > uint64(len(page)) {
			return nil, damaged("element %d of page %d is outside of it", i, id)
		}
		e.key = page[start:][:keySize]
		e.value = page[start+keySize:][:valueSize]
		if keySize == 0 || bytes.Compare(e.key, low) < 0 || (high != nil && bytes.Compare(e.key, high) >= 0) ||
			(i > 0 && bytes.Equal(e.key, low)) {
			return nil, damaged("element %d of page %d is out of order", i, id)
		}
		low = e.key
		elements = append(elements, e)
	}
	c.levels[depth].elements = elements
	return elements, nil
}

// freelist checks the list of pages that are free to be written.
func (c *checker) freelist(id uint64) error {
	page, err := c.page(id, 0)
	if err != nil {
		return err
	}
	if order.Uint16(page[8:]) != freelistPage {
		return damaged("page %d is no list of free pages", id)
	}
	ids, count := page[pageHeader:], uint64(order.Uint16(page[10:]))
	if count == 0xFFFF {
		count = order.Uint64(ids)
		ids = ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return damaged("page %d has no room for %d free pages", id, count)
	}
	for i := range count {
		if err := c.take(order.Uint64(ids[i*8:]), 1); err != nil {
			return err
		}
	}
	return nil
}

func u32(b []byte, at int) uint64 { return uint64(order.Uint32(b[at:])) }
