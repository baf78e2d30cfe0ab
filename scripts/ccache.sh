# Sourced by `cc` and `c++`. A cache that cannot be written (a read-only home, no
# home at all) must cost time, never the build, so ccache is asked first.
compile() {
  if command -v ccache >/dev/null 2>&1; then
    cache=${CCACHE_DIR:-}
    [ -n "$cache" ] || cache=$(ccache --get-config cache_dir 2>/dev/null)
    if [ -n "$cache" ] && mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ]; then
      exec ccache "$@"
    fi
  fi
  exec "$@"
}
