/* Runs the Lua script that is its input, without files and the operating system. Lua throws by longjmp, which the compiler
   makes an exception of WebAssembly. An error that the script does not catch is said on standard error: exit code 1. */
#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"
#include <stdio.h>

static const luaL_Reg libraries[] = {
    {LUA_GNAME, luaopen_base},          {LUA_COLIBNAME, luaopen_coroutine}, {LUA_TABLIBNAME, luaopen_table},
    {LUA_STRLIBNAME, luaopen_string},   {LUA_MATHLIBNAME, luaopen_math},    {LUA_UTF8LIBNAME, luaopen_utf8},
};

static char script[1 << 20];

int main(void) {
    lua_State *L = luaL_newstate();
    if (!L) return 2;
    for (size_t at = 0; at < sizeof libraries / sizeof *libraries; at++) {
        luaL_requiref(L, libraries[at].name, libraries[at].func, 1);
        lua_pop(L, 1);
    }
    size_t length = fread(script, 1, sizeof script, stdin);
    if (luaL_loadbuffer(L, script, length, "=script") != LUA_OK || lua_pcall(L, 0, 0, 0) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        return 1;
    }
    lua_close(L);
    return 0;
}
