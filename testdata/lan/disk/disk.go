//go:build linux

// Package disk has disks that go wrong, for tests: a small one that fills up or
// is mounted read-only, and one that turns read-only under a program that has
// files open on it.
//
// Start at [Small] and [Failing].
package disk

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A Disk is one of 1 MB in memory that only the test sees.
type Disk struct {
	Dir string // where it is mounted
}

const options = "size=1m,mode=0700"

// Small has f run with a disk, in a copy of the test in namespaces of its own.
// Where the machine forbids those it skips the test.
func Small(t *testing.T, f func(Disk)) {
	t.Helper()
	const inside = "LANCHAT_TEST_MOUNT"
	if dir := os.Getenv(inside); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
			t.Skipf("this machine forbids mounts in a namespace: %v", err)
		}
		f(Disk{dir})
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("this machine forbids user namespaces: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("%s", out)
	}
}

// Fill writes until the disk is full, and returns what frees the space again.
func (d Disk) Fill(t testing.TB) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(d.Dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want a full disk", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

// ReadOnly mounts the disk read-only. Nobody may have a file of it open for
// writing: the kernel refuses then. For that there is Failing.
func (d Disk) ReadOnly(t testing.TB) {
	t.Helper()
	if err := syscall.Mount("", d.Dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, options); err != nil {
		t.Fatal(err)
	}
}

// failing is a library that has libc refuse to write while the file that
// READ_ONLY_WHILE names is there, as it does on a disk that has turned read-only.
const failing = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static int read_only(void)
{
	const char *flag = getenv("READ_ONLY_WHILE");
	int saved = errno, is = flag && access(flag, F_OK) == 0;
	errno = is ? EROFS : saved;
	return is;
}

ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at)
{
	ssize_t (*next)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
	return read_only() ? -1 : next(fd, b, n, at);
}

int ftruncate64(int fd, off64_t n)
{
	int (*next)(int, off64_t) = dlsym(RTLD_NEXT, "ftruncate64");
	return read_only() ? -1 : next(fd, n);
}
`

// Failing has the disk turn read-only under the programs that are started from
// now on, as a disk does that has a fault: set switches that on and off. Only
// what they write by way of the C library is refused, as SQLite does.
func Failing(t testing.TB) (set func(readOnly bool)) {
	t.Helper()
	dir := t.TempDir()
	source, lib, flag := filepath.Join(dir, "failing.c"), filepath.Join(dir, "failing.so"), filepath.Join(dir, "read-only")
	if err := os.WriteFile(source, []byte(failing), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", lib, source, "-ldl").CombinedOutput(); err != nil {
		t.Skipf("no compiler that makes shared libraries: %v: %s", err, out)
	}
	t.Setenv("READ_ONLY_WHILE", flag)
	t.Setenv("LD_PRELOAD", lib)
	return func(readOnly bool) {
		t.Helper()
		err := os.Remove(flag)
		if readOnly {
			err = os.WriteFile(flag, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
