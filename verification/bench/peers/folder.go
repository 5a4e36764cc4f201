package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// writeAndReadBack writes a file durably, reads it from the disk, and returns its SHA-256 as hex.
//
// It does what the function of this name in verification/bench/plain_script.py does: temporary file, fsync, rename, fsync of the
// folder, read uncached, compare.
func writeAndReadBack(path string, content []byte) (string, error) {
	folder := filepath.Dir(path)
	if err := makeFolder(folder); err != nil {
		return "", err
	}
	temporary := filepath.Join(folder, "."+filepath.Base(path)+".tmp")
	if err := writeDurably(temporary, content); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", err
	}
	if err := synchronise(folder); err != nil {
		return "", err
	}
	found, err := hashUncached(path)
	if err != nil {
		return "", err
	}
	if sent := sha256.Sum256(content); found != hex.EncodeToString(sent[:]) {
		return "", fmt.Errorf("%s was not stored as it was sent", path)
	}
	return found, nil
}

func writeDurably(path string, content []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(content); err != nil {
		return err
	}
	return file.Sync()
}

func hashUncached(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return "", err
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// makeFolder makes a folder and those above it, each durably.
func makeFolder(folder string) error {
	if found, err := os.Stat(folder); err == nil && found.IsDir() {
		return nil
	}
	above := filepath.Dir(folder)
	if err := makeFolder(above); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return synchronise(above)
}

func synchronise(folder string) error {
	opened, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer opened.Close()
	return opened.Sync()
}
