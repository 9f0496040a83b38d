"""Tools of a plugin's author: doctor, new plugin, its template."""
