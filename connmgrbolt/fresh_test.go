package connmgrbolt

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

func TestWeKnowWhatBboltWritesWhenItMakesAFile(t *testing.T) {
	for _, pageSize := range []int{4096, 8192, 16384, 65536} {
		path := filepath.Join(t.TempDir(), "new.db")
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		is, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(is, newFile(pageSize)) {
			t.Errorf("a new file with pages of %d bytes is not what is expected", pageSize)
		}
		if ok, err := unfinished(bytes.NewReader(is), int64(len(is))); err != nil || !ok {
			t.Errorf("a new file with pages of %d bytes is not known as one: %v", pageSize, err)
		}
	}
}
