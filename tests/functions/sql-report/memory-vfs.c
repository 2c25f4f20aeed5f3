// The operating system as SQLite sees it here: a clock and randomness, and no files at all. Databases in memory need no
// more; ATTACH of a file is refused.
#include "sqlite3.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

static int no_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *flags_out) {
    (void)vfs, (void)name, (void)flags, (void)flags_out;
    file->pMethods = NULL;
    return SQLITE_CANTOPEN;
}

static int no_delete(sqlite3_vfs *vfs, const char *name, int sync) {
    (void)vfs, (void)name, (void)sync;
    return SQLITE_IOERR_DELETE;
}

static int no_access(sqlite3_vfs *vfs, const char *name, int flags, int *result) {
    (void)vfs, (void)name, (void)flags;
    *result = 0;
    return SQLITE_OK;
}

static int same_path(sqlite3_vfs *vfs, const char *name, int size, char *out) {
    (void)vfs;
    sqlite3_snprintf(size, out, "%s", name);
    return SQLITE_OK;
}

static int fill_random(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs;
    if (size <= 256 && getentropy(out, (size_t)size) == 0) return size;
    memset(out, 0, (size_t)size);
    return size;
}

static int no_sleep(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    return microseconds;
}

// Milliseconds since noon of 24 November 4714 BC, the Julian epoch.
static int julian_milliseconds(sqlite3_vfs *vfs, sqlite3_int64 *out) {
    (void)vfs;
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    *out = 210866760000000 + (sqlite3_int64)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    return SQLITE_OK;
}

static int julian_days(sqlite3_vfs *vfs, double *out) {
    sqlite3_int64 milliseconds;
    julian_milliseconds(vfs, &milliseconds);
    *out = (double)milliseconds / 86400000.0;
    return SQLITE_OK;
}

static int no_error(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs, (void)size, (void)out;
    return 0;
}

int sqlite3_os_init(void) {
    static sqlite3_vfs vfs = {
        .iVersion = 2, .szOsFile = sizeof(sqlite3_file), .mxPathname = 512, .zName = "memory",
        .xOpen = no_open, .xDelete = no_delete, .xAccess = no_access, .xFullPathname = same_path,
        .xRandomness = fill_random, .xSleep = no_sleep, .xCurrentTime = julian_days,
        .xCurrentTimeInt64 = julian_milliseconds, .xGetLastError = no_error,
    };
    return sqlite3_vfs_register(&vfs, 1);
}

int sqlite3_os_end(void) { return SQLITE_OK; }
