package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lanchat/authd/server"
	"lanchat/authd/store"
	"lanchat/wire/private"
	"lanchat/wire/usage"
)

// A backup is a tar archive (0600) of what makes a realm: a copy of the
// database and the key files of the data directory, as they are called there.
// One without the other is of no use: the database belongs to root.pem, and
// its verifiers to pepper.pem. Who has a backup is the realm.
//
// root.pem stands last, so an archive that was cut off has none and is
// refused. Whoever keeps the realm's key elsewhere has root.pem without it,
// here as there.
const (
	rootFile = "root.pem"
	// lockFile is held by the authd that serves from a directory.
	lockFile = "lock"
)

// keyFile is how a file of keys is called. Whatever is called so belongs to
// the realm.
var keyFile = regexp.MustCompile(`^[a-z]{1,32}\.pem$`)

const (
	maxKeyFile  = 64 << 10 // bytes
	maxKeyFiles = 16
)

func (o *options) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Writes the realm's accounts and keys to a new FILE, while authd serves or not",
		Long: "Backup writes a tar archive with a copy of the database, as it is at one moment, and the realm's keys.\n" +
			"Whoever has it is the realm: keep it where nobody else can read it.",
		Args: usage.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return o.backup(args[0], time.Now()) },
	}
}

func (o *options) restoreCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Puts a backup's accounts and keys into the data directory; authd must not be running",
		Long: "Restore checks the backup first and changes nothing if it is not whole. What changed after the backup was made is\n" +
			"lost: a device that was revoked since has to be revoked again, and so has an account that was removed.",
		Args: usage.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return o.restore(args[0], force) },
	}
	cmd.Flags().BoolVar(&force, "force", false, "even if that replaces a realm, whose accounts and keys are then gone")
	return cmd
}

// backup writes the archive at path: whole or not at all.
func (o *options) backup(path string, now time.Time) error {
	r, _, err := o.realm()
	if err != nil {
		return err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%q is there already: choose another name", path)
	}
	// A directory, which others can't enter, for the files on their way.
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".authd-backup-*")
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	defer os.RemoveAll(tmp) // in vain when all went well

	db := filepath.Join(tmp, server.DatabaseFile)
	if err := private.Create(db); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	st, err := store.Open(filepath.Join(o.data, server.DatabaseFile), r.ID)
	if err != nil {
		return err
	}
	if err := errors.Join(st.Backup(db), st.Close()); err != nil {
		return err
	}
	archive := filepath.Join(tmp, "backup.tar")
	if err := writeArchive(archive, db, o.data, now); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	if err := errors.Join(os.Rename(archive, path), os.Remove(db)); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return private.Remove(tmp) // which syncs the directory that path is in
}

// writeArchive makes the archive of a database and of the keys in the data
// directory, and syncs it.
func writeArchive(path, db, data string, now time.Time) (err error) {
	keys, err := keyFiles(data)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tw := tar.NewWriter(f)
	header := func(name string, size int64) error {
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: now.Truncate(time.Second)})
	}

	d, err := os.Open(db)
	if err != nil {
		return err
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return err
	}
	if err := header(server.DatabaseFile, info.Size()); err != nil {
		return err
	}
	if _, err := io.Copy(tw, d); err != nil {
		return err
	}
	for _, name := range keys {
		b, err := private.Read(filepath.Join(data, name), maxKeyFile)
		if err != nil {
			return err
		}
		if err := header(name, int64(len(b))); err != nil {
			return err
		}
		if _, err := tw.Write(b); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return f.Sync()
}

// keyFiles returns the names of the files of keys in a directory, root.pem
// last.
func keyFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	root := false
	for _, e := range entries {
		switch name := e.Name(); {
		case name == rootFile:
			root = true
		case keyFile.MatchString(name):
			names = append(names, name)
		}
	}
	if root {
		names = append(names, rootFile)
	}
	return names, nil
}

// restore puts the archive at path into the data directory. It holds the
// directory's lock, so no authd serves from there meanwhile.
//
// If it is interrupted, root.pem is missing and something else of a realm is
// there: authd then refuses to start, and restore --force does it again.
func (o *options) restore(path string, force bool) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := private.Dir(o.data); err != nil {
		return fmt.Errorf("opening the data directory: %w", err)
	}
	unlock, err := private.Lock(filepath.Join(o.data, lockFile))
	if errors.Is(err, private.ErrLocked) {
		return fmt.Errorf("authd is running on %q: stop it first", o.data)
	}
	if err != nil {
		return fmt.Errorf("locking the data directory: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()

	old, err := keyFiles(o.data)
	if err != nil {
		return err
	}
	database := filepath.Join(o.data, server.DatabaseFile)
	if _, err := os.Lstat(database); !force && (err == nil || len(old) > 0) {
		return fmt.Errorf("a realm is there already, in %q: restore into another directory, or replace it for good with --force", o.data)
	}

	// Inside the directory: on the same disk, and closed to others.
	tmp := filepath.Join(o.data, ".restore")
	if err := os.RemoveAll(tmp); err != nil { // what one that was interrupted left
		return err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	keys, err := extract(f, tmp)
	if err == nil {
		err = checkRealm(tmp)
	}
	if err != nil {
		return fmt.Errorf("%q is not a whole backup, nothing was changed: %w", path, err)
	}

	if err := private.Remove(filepath.Join(o.data, rootFile)); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} { // a log left behind would be taken for the new one's
		if err := private.Remove(database + suffix); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(tmp, server.DatabaseFile), database); err != nil {
		return err
	}
	for _, name := range old {
		if !slices.Contains(keys, name) {
			if err := private.Remove(filepath.Join(o.data, name)); err != nil {
				return err
			}
		}
	}
	for _, name := range keys {
		b, err := private.Read(filepath.Join(tmp, name), maxKeyFile)
		if err != nil {
			return err
		}
		if err := private.Write(filepath.Join(o.data, name), b); err != nil {
			return err
		}
	}
	return nil
}

// extract writes the files of an archive into dir and returns the names of
// those that hold keys, root.pem last. It takes nothing but what backup puts
// there.
func extract(archive io.Reader, dir string) (keys []string, err error) {
	tr := tar.NewReader(archive)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return keyFiles(dir)
		}
		if err != nil {
			return nil, err
		}
		key := keyFile.MatchString(h.Name)
		switch {
		case h.Typeflag != tar.TypeReg, !key && h.Name != server.DatabaseFile:
			return nil, fmt.Errorf("%q has no place in it", h.Name)
		case key && h.Size > maxKeyFile:
			return nil, fmt.Errorf("%q is too large", h.Name)
		}
		if key {
			if keys = append(keys, h.Name); len(keys) > maxKeyFiles {
				return nil, errors.New("too many files")
			}
		}
		if err := extractFile(filepath.Join(dir, h.Name), tr); errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%q is in it twice", h.Name)
		} else if err != nil {
			return nil, fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

func extractFile(path string, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Sync(), f.Close())
}

// checkRealm opens everything in dir as authd does at its start, which brings
// an older database up to date.
func checkRealm(dir string) error {
	for _, name := range []string{rootFile, server.DatabaseFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil { // would be made anew
			return fmt.Errorf("it lacks %s", name)
		}
	}
	keys, err := server.OpenKeys(dir, "", time.Time{})
	if err != nil {
		return err
	}
	st, err := store.Open(filepath.Join(dir, server.DatabaseFile), keys.Realm.ID)
	if err == nil {
		err = st.Close()
	}
	return errors.Join(err, keys.Close())
}
