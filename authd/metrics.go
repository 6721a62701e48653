package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"lanchat/authd/serve"
)

// metricsEvery is how often the file of metrics is replaced.
const metricsEvery = 15 * time.Second

// writeMetrics keeps the file current until ctx is done, and once more then.
func writeMetrics(ctx context.Context, path string, a *serve.Authd, log *slog.Logger) {
	tick := time.NewTicker(metricsEvery)
	defer tick.Stop()
	for {
		b, err := a.Metrics()
		if err == nil {
			err = replaceFile(path, b)
		}
		if err != nil {
			log.Warn("writing the metrics", "err", err)
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// replaceFile writes the file as a whole: a reader sees the old one or the
// new one. Others may read it.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain once it is renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
