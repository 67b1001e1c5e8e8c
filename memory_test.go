package connmgr

import (
	"math"
	"testing"
	"testing/fstest"
	"unsafe"
)

// These tests look inside: how the memory limit of a container is found, on a
// file system made up for it, and how large a record is. What the manager does
// when memory is short is in background_test.go.

// files is a file system, by path and content.
type files map[string]string

func (f files) fs() fstest.MapFS {
	m := fstest.MapFS{}
	for path, content := range f {
		m[path] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

func TestContainerMemoryLimit(t *testing.T) {
	const (
		v2      = "sys/fs/cgroup/"
		v1      = "sys/fs/cgroup/memory/"
		cgroups = "proc/self/cgroup"
	)
	for _, tt := range []struct {
		name  string
		files files
		want  uint64
	}{
		{"no control groups at all", files{}, 0},
		{"version 2, at the root", files{cgroups: "0::/\n", v2 + "memory.max": "1048576\n"}, 1 << 20},
		{"version 2, in a group", files{cgroups: "0::/a/b\n", v2 + "a/b/memory.max": "1048576\n"}, 1 << 20},
		{"version 2, without a limit", files{cgroups: "0::/a\n", v2 + "a/memory.max": "max\n", v2 + "memory.max": "max\n"}, 0},
		{"version 2, the tightest of nested groups is outside", files{
			cgroups: "0::/a/b/c\n", v2 + "a/b/c/memory.max": "3000\n", v2 + "a/b/memory.max": "1000\n", v2 + "a/memory.max": "2000\n",
		}, 1000},
		{"version 2, the tightest is inside", files{
			cgroups: "0::/a/b\n", v2 + "a/b/memory.max": "500\n", v2 + "a/memory.max": "2000\n",
		}, 500},
		{"version 2, the inner group has none", files{
			cgroups: "0::/a/b\n", v2 + "a/b/memory.max": "max\n", v2 + "a/memory.max": "2000\n",
		}, 2000},
		{"version 2, the group is not visible in the container", files{
			cgroups: "0::/system.slice/docker-1234.scope\n", v2 + "memory.max": "4096\n",
		}, 4096},
		{"version 2, a namespace that starts above", files{cgroups: "0::/../other\n", v2 + "other/memory.max": "4096"}, 4096},
		{"version 2, a sibling's limit does not matter", files{
			cgroups: "0::/a\n", v2 + "a/memory.max": "2000\n", v2 + "b/memory.max": "1\n", v2 + "a/b/memory.max": "1\n",
		}, 2000},
		{"version 2, a name with a colon", files{cgroups: "0::/a:b\n", v2 + "a:b/memory.max": "7000\n"}, 7000},
		{"version 1", files{
			cgroups: "12:cpu,cpuacct:/x\n5:memory:/docker/abc\n1:name=systemd:/x\n", v1 + "docker/abc/memory.limit_in_bytes": "2097152\n",
		}, 2 << 20},
		{"version 1, with other controllers", files{
			cgroups: "5:cpu,memory:/a\n", v1 + "a/memory.limit_in_bytes": "2097152\n",
		}, 2 << 20},
		{"version 1, the group is not visible in the container", files{
			cgroups: "5:memory:/docker/abc\n", v1 + "memory.limit_in_bytes": "2097152\n",
		}, 2 << 20},
		{"version 1, without a limit", files{
			cgroups: "5:memory:/\n", v1 + "memory.limit_in_bytes": "9223372036854771712\n",
		}, 0},
		{"version 1, the tightest of nested groups", files{
			cgroups: "5:memory:/a/b\n", v1 + "a/b/memory.limit_in_bytes": "9000\n", v1 + "a/memory.limit_in_bytes": "8000\n",
		}, 8000},
		{"version 1, another controller's limit does not matter", files{
			cgroups: "5:memory_other:/a\n6:cpu:/a\n", v1 + "a/memory.limit_in_bytes": "9000\n",
		}, 0},
		{"both versions", files{
			cgroups: "5:memory:/a\n0::/b\n", v1 + "a/memory.limit_in_bytes": "9000\n", v2 + "b/memory.max": "7000\n",
		}, 7000},
		{"garbage for a limit", files{cgroups: "0::/\n", v2 + "memory.max": "lots\n"}, 0},
		{"a negative limit", files{cgroups: "0::/\n", v2 + "memory.max": "-1\n"}, 0},
		{"a limit of zero", files{cgroups: "0::/\n", v2 + "memory.max": "0\n"}, 0},
		{"an empty limit", files{cgroups: "0::/\n", v2 + "memory.max": ""}, 0},
		{"a limit too large for a number", files{cgroups: "0::/\n", v2 + "memory.max": "99999999999999999999\n"}, 0},
		{"garbage for groups", files{cgroups: "\n\x00\xff\n::\nmemory\n0:\n0::\n:::\n", v2 + "memory.max": "3000"}, 3000},
		{"garbage outside, a limit inside", files{
			cgroups: "0::/a\n", v2 + "memory.max": "garbage\n", v2 + "a/memory.max": "5000\n",
		}, 5000},
	} {
		if got := containerMemoryLimit(tt.files.fs()); got != tt.want {
			t.Errorf("%s: the limit is %d, want %d", tt.name, got, tt.want)
		}
	}
}

func FuzzContainerMemoryLimitReadsAnything(f *testing.F) {
	f.Add("0::/a\n5:memory:/b\n", "100")
	f.Add("garbage", "max")
	f.Add("0::/../../a//b/\n", "1")
	f.Fuzz(func(t *testing.T, groups, limit string) {
		root := files{"proc/self/cgroup": groups, "sys/fs/cgroup/memory.max": limit, "sys/fs/cgroup/memory/memory.limit_in_bytes": limit}
		if got := containerMemoryLimit(root.fs()); got >= 1<<60 {
			t.Errorf("groups %q, limit %q: %d is no limit", groups, limit, got)
		}
	})
}

func TestMemoryGaugeWithoutAnyLimitIsRefused(t *testing.T) {
	g, err := newMemoryGauge(0.5)
	switch {
	case g != nil && g.container == 0: // then there must be GOMEMLIMIT
		if _, _, limit := g.read(); limit == 0 || limit >= math.MaxInt64 {
			t.Errorf("a gauge without any limit was made, its limit is %d", limit)
		}
	case g == nil && err == nil:
		t.Error("neither a gauge nor an error")
	}
}

// A record is what 200 bytes per peer (design, section 9) are made of; the rest
// is the index, and room in both.
func TestRecordsStaySmall(t *testing.T) {
	if size := unsafe.Sizeof(record{}); size > 128 {
		t.Errorf("a record has %d bytes, want at most 128", size)
	}
	if size := unsafe.Sizeof(PeerState{}); size != 64 {
		t.Errorf("a PeerState has %d bytes, want one cache line, 64", size)
	}
	const header = 8 // what Go puts in front of an object with pointers that is not small
	if size := header + unsafe.Sizeof(chunk{}); size > 2048 || size <= 2048-unsafe.Sizeof(record{}) {
		t.Errorf("a chunk takes %d bytes, want just about 2048", size)
	}
}
