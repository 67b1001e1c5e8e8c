package connmgrbolt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

// This file says what is in the file, format 1. All numbers are big-endian.
//
//	bucket "connmgr"         what is to be known before anything else
//	  "format"               4 bytes of format version; stays in all formats to come
//	  "tally"                8 bytes of number of records, 8 bytes of their
//	                         checksums' sum
//	bucket "connmgr.rules"   one record per rule; record.go says how it is written
//
// Both values of the first bucket end with 4 bytes of CRC-32C over what is before.
// The tally changes in the same transaction as the records, so that records that are
// lost, or come back, do not go without notice.
//
// Buckets with other names are left alone.

const formatVersion = 1

var (
	headBucket  = []byte("connmgr")
	rulesBucket = []byte("connmgr.rules")
	formatKey   = []byte("format")
	tallyKey    = []byte("tally")
)

// newer says that a newer version of this package wrote something.
func newer(has, known uint32) error {
	return &fault{kind: ErrNewerFormat, text: fmt.Sprintf("format %d is newer than %d, the newest that this version reads", has, known)}
}

// tally is what the records must come to.
type tally struct {
	count uint64 // records
	sum   uint64 // of their checksums, wrapping
}

// add counts a record in; the value is as long as a value has to be.
func (t *tally) add(value []byte) {
	t.count++
	t.sum += uint64(storedChecksum(value))
}

// remove counts a record out again.
func (t *tally) remove(value []byte) {
	t.count--
	t.sum -= uint64(storedChecksum(value))
}

// create writes the two buckets of a file without rules.
func create(tx *bbolt.Tx) error {
	head, err := tx.CreateBucket(headBucket)
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(rulesBucket); err != nil {
		return err
	}
	if err := putSealed(head, formatKey, binary.BigEndian.AppendUint32(nil, formatVersion)); err != nil {
		return err
	}
	return putTally(head, tally{})
}

// buckets returns the two buckets, if the file has the format that is known here.
func buckets(tx *bbolt.Tx) (head, rules *bbolt.Bucket, err error) {
	head = tx.Bucket(headBucket)
	if head == nil {
		return nil, nil, damaged("bucket %q is missing", headBucket)
	}
	version, err := getSealed(head, formatKey, 4)
	if err != nil {
		return nil, nil, err
	}
	switch v := binary.BigEndian.Uint32(version); {
	case v > formatVersion:
		return nil, nil, newer(v, formatVersion)
	case v < formatVersion:
		return nil, nil, damaged("it has format %d, and there is none before 1", v)
	}
	rules = tx.Bucket(rulesBucket)
	if rules == nil {
		return nil, nil, damaged("bucket %q is missing", rulesBucket)
	}
	return head, rules, nil
}

func getTally(head *bbolt.Bucket) (tally, error) {
	b, err := getSealed(head, tallyKey, 16)
	if err != nil {
		return tally{}, err
	}
	return tally{count: binary.BigEndian.Uint64(b), sum: binary.BigEndian.Uint64(b[8:])}, nil
}

func putTally(head *bbolt.Bucket, t tally) error {
	b := binary.BigEndian.AppendUint64(nil, t.count)
	return putSealed(head, tallyKey, binary.BigEndian.AppendUint64(b, t.sum))
}

// putSealed puts a value with its checksum.
func putSealed(b *bbolt.Bucket, key, value []byte) error {
	return b.Put(key, binary.BigEndian.AppendUint32(value, crc32.Checksum(value, castagnoli)))
}

// getSealed returns a value of a size in bytes, without its checksum.
func getSealed(b *bbolt.Bucket, key []byte, size int) ([]byte, error) {
	value := b.Get(key)
	if len(value) != size+crcSize {
		return nil, damaged("%q has %d bytes, must have %d", key, len(value), size+crcSize)
	}
	value, sum := value[:size], storedChecksum(value)
	if got := crc32.Checksum(value, castagnoli); got != sum {
		return nil, damaged("the checksum of %q is %08x, must be %08x", key, got, sum)
	}
	return value, nil
}
